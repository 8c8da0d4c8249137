# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Stores that lose their server, their disk or their process: what was acknowledged is there once.

The server is the one that Debian ships, started here on loopback with a folder of its own."""
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

import support

TOOL = support.BUILD / "tests" / "unit" / "storage-tool"
SUITE = support.BUILD / "tests" / "unit" / "unit-storage-test_store"
CHDB = support.BUILD / "libchdb.so"
SERVER = shutil.which("clickhouse-server") or "/usr/sbin/clickhouse-server"

CONFIG = """<yandex>
  <logger><level>warning</level><log>{dir}/log</log><errorlog>{dir}/errors</errorlog></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{http}</http_port>
  <tcp_port>{tcp}</tcp_port>
  <path>{dir}/data/</path>
  <tmp_path>{dir}/tmp/</tmp_path>
  <users_config>{dir}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size>
</yandex>
"""
USERS = """<yandex>
  <profiles><default/></profiles>
  <users><default><password>{password}</password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota></default></users>
  <quotas><default/></quotas>
</yandex>
"""


def free_ports(count):
    """Ports that the kernel chose; all held until all are known."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Server:
    """A ClickHouse server; may be stopped and started again on the same port."""

    def __init__(self, folder):
        self.folder = folder
        self.http, tcp = free_ports(2)
        self.url = f"http://127.0.0.1:{self.http}"
        (folder / "data").mkdir()
        (folder / "tmp").mkdir()
        (folder / "config.xml").write_text(CONFIG.format(dir=folder, http=self.http, tcp=tcp))
        (folder / "users.xml").write_text(USERS.format(password=""))
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [SERVER, f"--config-file={self.folder}/config.xml"], cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=support.die_with_parent)
        support.wait_until(self.answers, 60, "the ClickHouse server")

    def answers(self):
        assert self.process.poll() is None, support.read(self.folder / "errors")[-2000:]
        try:
            with urllib.request.urlopen(self.url + "/ping", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self, how=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None


@pytest.fixture
def server(tmp_path):
    if not os.access(SERVER, os.X_OK):
        pytest.skip("needs Debian's clickhouse-server")
    folder = tmp_path / "clickhouse"
    folder.mkdir()
    made = Server(folder)
    made.start()
    yield made
    made.stop(signal.SIGKILL)


class Tool:
    """A store_tool process: one line asked, one answered."""

    def __init__(self, folder=None, url=None):
        env = dict(os.environ, APERTURE_CHDB_LIBRARY=str(CHDB))
        env.pop("APERTURE_TEST_CLICKHOUSE", None)
        if url:
            env["APERTURE_TEST_CLICKHOUSE"] = url
        self.process = subprocess.Popen([str(TOOL), *([str(folder)] if folder else [])], env=env, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, preexec_fn=support.die_with_parent)
        self.opened = self.process.stdout.readline().split()

    def send(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def read(self):
        """("ok", numbers) or ("error", code, words)."""
        line = self.process.stdout.readline()
        if not line:
            return ("gone",)
        words = line.split()
        if words[0] == "ok":
            return ("ok", *map(int, words[1:]))
        return ("error", int(words[1]), " ".join(words[2:]))

    def ask(self, *words):
        self.send(*words)
        return self.read()

    def commit(self, first, count=1, samples=50):
        return self.ask("commit", first, count, samples)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0


def chdb_or_skip():
    if not CHDB.exists():
        pytest.skip("the embedded store's library is not here")
    if "asan" in support.BUILD.name:
        pytest.skip("the embedded store does not load under the sanitizer")


def expected(batches):
    """What a store that was never disturbed (memory) counts of the same batches."""
    tool = Tool()
    assert tool.commit(1, batches) == ("ok", 0)
    answer = tool.ask("count")
    tool.close()
    return answer


@pytest.mark.sanitizer
def test_same_suite_on_the_server(server):
    """Every question and every crash of the unit suite, against the oldest server."""
    env = dict(os.environ, APERTURE_TEST_CLICKHOUSE=server.url)
    env.pop("APERTURE_CHDB_LIBRARY", None)
    done = subprocess.run([str(SUITE)], env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "SKIPPED" not in done.stderr + done.stdout


@pytest.mark.sanitizer
def test_server_goes_and_comes(server, tmp_path):
    tool = Tool(tmp_path / "data", server.url)
    assert tool.commit(1) == ("ok", 0)
    server.stop(signal.SIGKILL)
    started = time.monotonic()
    answer = tool.commit(2)
    assert answer[:2] == ("error", errno.EAGAIN), answer
    assert time.monotonic() - started < 30
    assert tool.ask("ready")[:2] == ("error", errno.EAGAIN)
    assert tool.commit(3)[:2] == ("error", errno.EAGAIN)
    server.start()
    assert tool.commit(2, 2)[0] == "ok"
    assert tool.commit(1, 3) == ("ok", 3)
    assert tool.ask("batches") == ("ok", 3)
    count = tool.ask("count")
    tool.close()
    assert count == expected(3)


def test_server_is_away_at_the_start(server, tmp_path):
    server.stop()
    tool = Tool(tmp_path / "data", server.url)
    assert tool.opened == ["ok", "open"]
    assert tool.commit(1)[:2] == ("error", errno.EAGAIN)
    assert tool.ask("count")[:2] == ("error", errno.EAGAIN)
    server.start()
    assert tool.commit(1) == ("ok", 0)
    assert tool.ask("batches") == ("ok", 1)
    tool.close()


def test_wrong_password(server, tmp_path):
    (server.folder / "users.xml").write_text(USERS.format(password="secret"))
    server.stop()
    server.process = subprocess.Popen([SERVER, f"--config-file={server.folder}/config.xml"], cwd=server.folder,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      preexec_fn=support.die_with_parent)
    support.wait_until(server.answers, 60, "the ClickHouse server")
    tool = Tool(tmp_path / "data", server.url)
    assert tool.opened[:2] == ["error", str(errno.EACCES)], tool.opened
    assert tool.process.wait(20) == 1


def test_two_on_one_server(server, tmp_path):
    """Aggregators that share a server do not store a batch twice, whichever it is sent to."""
    one, two = Tool(tmp_path / "one", server.url), Tool(tmp_path / "two", server.url)
    assert one.commit(1, 3) == ("ok", 0)
    assert two.commit(1, 5) == ("ok", 3)
    assert one.commit(4, 3) == ("ok", 2)
    assert two.ask("batches") == ("ok", 6)
    one.close()
    two.close()


@pytest.mark.sanitizer
@pytest.mark.parametrize("kind", ["chdb", "clickhouse"])
def test_killed_while_committing(kind, request, tmp_path):
    """kill -9 at any moment: what was acknowledged, and what was not but is sent again, is there once."""
    if kind == "chdb":
        chdb_or_skip()
    url = request.getfixturevalue("server").url if kind == "clickhouse" else None
    rng, acknowledged, rounds = random.Random(5), 0, 8
    for _ in range(rounds):
        tool = Tool(tmp_path / "data", url)
        assert tool.opened == ["ok", "open"], tool.opened
        end = time.monotonic() + rng.uniform(0.05, 0.8)
        sequence = acknowledged + 1
        while time.monotonic() < end:
            # From the last acknowledged one on, as an agent does.
            assert tool.commit(sequence, 2)[0] == "ok"
            sequence += 2
            acknowledged = sequence - 1
        tool.send("commit", sequence, 2, 50)
        time.sleep(rng.uniform(0, 0.02))  # so that it dies somewhere in the middle
        tool.kill()
    tool = Tool(tmp_path / "data", url)
    stored = acknowledged + 2
    assert tool.commit(1, stored)[0] == "ok"
    assert tool.ask("batches") == ("ok", stored)
    count = tool.ask("count")
    tool.close()
    assert count == expected(stored)


def test_full_disk(tmp_path):
    chdb_or_skip()
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(folder)], check=False).returncode != 0:
        pytest.skip("no tmpfs may be mounted")
    try:
        ballast = folder / "ballast"
        tool = Tool(folder / "data")
        assert tool.opened == ["ok", "open"], tool.opened
        assert tool.commit(1, 5) == ("ok", 0)
        with open(ballast, "wb") as file:
            with pytest.raises(OSError):
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
        answer = tool.commit(6, 5)
        assert answer[:2] == ("error", errno.ENOSPC), answer
        assert tool.ask("batches") == ("ok", 5)
        ballast.unlink()
        # The disk's space comes back at once, the store by itself.
        assert tool.commit(6, 5)[0] == "ok"
        assert tool.ask("batches") == ("ok", 10)
        count = tool.ask("count")
        tool.close()
        assert count == expected(10)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
