# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A ClickHouse server of Debian's package, on loopback ports of its own, in a folder of its own."""
import pathlib
import shutil
import urllib.error
import urllib.request

import pytest

import aggregator as agg
import support

CONFIG = """<?xml version="1.0"?>
<yandex>
    <logger><level>warning</level><log>{folder}/log</log><errorlog>{folder}/errors</errorlog></logger>
    <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><interserver_http_port>{peers}</interserver_http_port>
    <listen_host>127.0.0.1</listen_host><interserver_http_host>127.0.0.1</interserver_http_host>
    <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>
    <users_config>users.xml</users_config>
    <default_profile>default</default_profile><default_database>default</default_database>
    <mark_cache_size>268435456</mark_cache_size>
</yandex>
"""
USERS = """<?xml version="1.0"?>
<yandex>
    <profiles><default/></profiles><quotas><default/></quotas>
    <users><default>
        <password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
    </default></users>
</yandex>
"""


class ClickHouse:
    """start() and stop() may follow each other: port and data stay."""

    def __init__(self, folder):
        self.program = shutil.which("clickhouse-server", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if not self.program:
            pytest.skip("needs clickhouse-server")
        self.folder = pathlib.Path(folder)
        self.http = agg.free_port()
        self.endpoint = f"http://127.0.0.1:{self.http}"
        for name in ("data", "tmp"):
            (self.folder / name).mkdir(parents=True)
        ports = {"http": self.http, "tcp": agg.free_port(), "peers": agg.free_port()}
        (self.folder / "config.xml").write_text(CONFIG.format(folder=self.folder, **ports))
        (self.folder / "users.xml").write_text(USERS)
        self.process = None

    def answers(self):
        try:
            return self.query("SELECT 1") == "1\n"
        except (urllib.error.URLError, ConnectionError):
            return False

    def start(self):
        self.process = support.Process([self.program, f"--config-file={self.folder}/config.xml"])
        support.wait_until(self.answers, 60, "ClickHouse")
        return self

    def stop(self):
        if self.process:
            self.process.popen.kill()
            self.process.wait()
            self.process = None

    def query(self, text):
        with urllib.request.urlopen(self.endpoint + "/", data=text.encode(), timeout=30) as answer:
            return answer.read().decode()

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop()
