# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The aggregator's life: starts and stops, full disks, storage that goes away, death, and crowds."""
import collections
import concurrent.futures
import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import grpc
import pytest

import aggregator as agg
import clickhouse
import support

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # with empty settings
GRACE = 5  # seconds that stopping may take


def numbered(sender, sequence, cnt=50):
    """A batch whose samples say whose they are."""
    samples = [("t", (f"sender-{sender}", f"batch-{sequence}", f"f{i}"), 1, 1) for i in range(cnt)]
    return agg.pack(agg.make_batch(samples, agg.now_ns() - agg.SECOND))


def stored(client, **selector):
    """{(sender, batch): samples} of everything there."""
    found = collections.Counter()
    for row in client.stacks(limit=100000, **selector).stacks:
        found[row.functions[1], row.functions[2]] += row.count
    return found


class Senders:
    """Threads that push numbered batches until they are told to stop; what was acknowledged is noted."""

    def __init__(self, server, cnt=4):
        self.server = server
        self.acknowledged, self.sent = set(), set()
        self.statuses = collections.Counter()
        self.stopping = threading.Event()
        self.next = dict.fromkeys(range(cnt), 0)
        self.threads = []

    def start(self):
        self.stopping.clear()
        self.threads = [threading.Thread(target=self.run, args=(sender,)) for sender in self.next]
        for thread in self.threads:
            thread.start()

    def run(self, sender):
        with self.server().client() as client:
            while not self.stopping.is_set():
                sequence = self.next[sender] + 1
                self.sent.add((sender, sequence))
                status, _ = client.push_status(f"agent-{sender}", sequence, numbered(sender, sequence), timeout=60)
                self.statuses[status] += 1
                if status == "OK":
                    self.acknowledged.add((sender, sequence))
                    self.next[sender] = sequence
                elif self.stopping.wait(0.02):
                    break

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def check(self, found, cnt=50):
        """Every acknowledged batch is there once; nothing is there that was not sent, or twice."""
        expected = {(f"sender-{sender}", f"batch-{sequence}") for sender, sequence in self.acknowledged}
        missing = expected - set(found)
        assert not missing, sorted(missing)[:5]
        assert set(found.values()) <= {cnt}
        assert set(found) <= {(f"sender-{sender}", f"batch-{sequence}") for sender, sequence in self.sent}


# ---- Start and stop


@pytest.mark.sanitizer
def test_stops(tmp_path):
    """SIGTERM and SIGINT end it with 0; what was acknowledged was stored."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        with agg.Aggregator() as server:
            with server.client() as client:
                client.push("a", 1, numbered(0, 1))
            assert server.end(signum) < GRACE and server.rc == 0
            assert server.log().rstrip().endswith("stopped")


@pytest.mark.sanitizer
def test_stops_with_calls_in_flight():
    """While senders push and askers ask: everything is answered or cancelled, inside the time."""
    with agg.Aggregator() as server:
        senders = Senders(lambda: server, 8)
        senders.start()
        asked = collections.Counter()

        def ask():
            with server.client() as client:
                request = client.messages.AggregateRequest(selector=client.selector(), limit=10, max_nodes=1000)
                while not senders.stopping.is_set():
                    asked[client.status("Aggregate", request, timeout=20)[0]] += 1

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for thread in askers:
            thread.start()
        support.wait_until(lambda: len(senders.acknowledged) > 50 and asked["OK"] > 5, what="traffic")
        taken = server.end()
        senders.stop()
        for thread in askers:
            thread.join()
        assert taken < GRACE and server.rc == 0, server.log()
        assert set(senders.statuses) <= {"OK", "UNAVAILABLE", "CANCELLED"}, senders.statuses
        assert set(asked) <= {"OK", "UNAVAILABLE", "CANCELLED"}, asked


@pytest.mark.sanitizer
def test_second_signal_ends_at_once(tmp_path):
    """A request that never ends is not waited for."""
    with agg.Aggregator() as server:
        with socket.create_connection(("127.0.0.1", int(server.http_port))) as slow:
            slow.sendall(b"POST /api/import HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
            server.popen.send_signal(signal.SIGTERM)
            support.wait_until(lambda: "stopping" in server.log(), what="the first signal")
            server.popen.send_signal(signal.SIGTERM)
            server.wait(GRACE)
            assert server.rc in (-signal.SIGTERM, 0)


@pytest.mark.sanitizer
def test_slow_clients_do_not_hold_it(tmp_path):
    with agg.Aggregator() as server:
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                slow = stack.enter_context(socket.create_connection(("127.0.0.1", int(server.http_port))))
                slow.sendall(b"POST /api/import HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
                half = stack.enter_context(socket.create_connection(("127.0.0.1", int(server.port))))
                half.sendall(HTTP2_PREFACE)
            with server.client() as client:
                client.push("a", 1, numbered(0, 1))
            assert server.end() < GRACE and server.rc == 0


@pytest.mark.sanitizer
def test_usage():
    def run(*args):
        return subprocess.run([agg.PROGRAM, *args], capture_output=True, text=True, timeout=30)

    assert run("--help").returncode == 0 and "--retention" in run("--help").stdout
    assert run("--version").stdout.startswith("aperture-aggregator ")
    for args in (("--nothing",), ("--storage", "disk"), ("--retention", "cpu"), ("--tls-cert", "x"), ("argument",)):
        done = run(*args)
        assert done.returncode == 2 and done.stderr.startswith("aperture-aggregator: "), args


@pytest.mark.sanitizer
def test_log_as_json():
    with agg.Aggregator("--log-format", "json", token="short") as server:
        with server.client(token="wrong") as client:
            assert client.push_status("a", 1, numbered(0, 1))[0] == "UNAUTHENTICATED"
        server.end()
        lines = [json.loads(line) for line in server.log().splitlines()]
        assert {line["program"] for line in lines} == {"aperture-aggregator"}
        assert any("audit: refused" in line["message"] and line["level"] == "warning" for line in lines)
        assert any("can be guessed" in line["message"] for line in lines)


@pytest.mark.sanitizer
def test_print_schema():
    """The statements for one server, and for a cluster; nothing is started or written."""

    def schema(*args):
        return subprocess.run([agg.PROGRAM, "--print-schema", *args], capture_output=True, text=True, check=True).stdout

    one, cluster = schema(), schema("--cluster", "main")
    for table in ("samples", "stacks", "frames", "locks", "syscalls", "batches"):
        assert re.search(rf"CREATE TABLE IF NOT EXISTS \S*\b{table}\b", one), table
    assert "MergeTree" in one and "Replicated" not in one and "Distributed" not in one
    assert "ON CLUSTER" in cluster and "Replicated" in cluster and "Distributed" in cluster and "main" in cluster


@pytest.mark.sanitizer
def test_runs_as_any_user(tmp_path):
    """nobody may run it, in a folder of its own."""
    home = tmp_path / "home"
    home.mkdir()
    for folder in (home, *tmp_path.parents[:3]):
        os.chmod(folder, 0o755)
    os.chown(home, 65534, 65534)
    program = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", agg.PROGRAM)
    if not os.access(agg.PROGRAM, os.X_OK) or subprocess.run(
        [*program[:-1], "test", "-x", agg.PROGRAM], check=False
    ).returncode:
        pytest.skip("the build folder is not open to other users")
    with agg.Aggregator("--data-dir=", program=program, env={"HOME": str(home)}, storage="auto") as server:
        with server.client() as client:
            assert not client.push("a", 1, numbered(0, 1)).duplicate
        if "(chdb)" in server.stored_in:
            assert server.stored_in.startswith(f"{home}/.local/share/aperture")
            assert (home / ".local/share/aperture").stat().st_mode & 0o077 == 0
        assert server.end() < GRACE and server.rc == 0


@pytest.mark.sanitizer
def test_ready_and_healthy_agree():
    with agg.Aggregator() as server:
        assert server.http("GET", "/healthz")[0] == server.http("GET", "/readyz")[0] == 200
        with server.channel() as channel:
            assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10) == b"\x08\x01"
        metrics = server.metrics()
        assert metrics["aperture_ready"] == 1 and metrics["aperture_auth_tokens"] == 0
        assert 0 < metrics["process_open_fds"] < metrics["process_max_fds"]
        assert metrics["process_resident_memory_bytes"] > 1 << 20
        assert abs(metrics["process_start_time_seconds"] - time.time()) < 120


def test_metrics_with_promtool(tool):
    with agg.Aggregator() as server:
        body = server.http("GET", "/metrics")[2].decode()
    done = tool("promtool", "check", "metrics", input=body, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- Death


def kill_rounds(rounds, seconds):
    rng = random.Random(4)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(agg.Aggregator(storage="chdb"))
        data = f"{server.folder}/data"
        current = [server]
        senders = Senders(lambda: current[0])
        for _ in range(rounds):
            senders.start()
            before = len(senders.acknowledged)
            support.wait_until(lambda: len(senders.acknowledged) > before + 8, 60, "acknowledged batches")
            time.sleep(rng.uniform(0, seconds))  # anywhere within a commit
            current[0].end(signal.SIGKILL)
            senders.stop()
            current[0] = stack.enter_context(agg.Aggregator("--data-dir", data, storage="chdb"))
            with current[0].client() as client:
                senders.check(stored(client))
        # What was not acknowledged is sent again, and is there once.
        with current[0].client() as client:
            for sender, sequence in sorted(senders.sent - senders.acknowledged):
                client.push(f"agent-{sender}", sequence, numbered(sender, sequence))
                senders.acknowledged.add((sender, sequence))
            found = stored(client)
            senders.check(found)
            assert len(found) == len(senders.sent)


@pytest.mark.skipif(agg.SANITIZED, reason="chDB does not load beside the address sanitizer")
def test_killed():
    kill_rounds(20 if os.environ.get("APERTURE_TEST_LONG") else 4, 0.3)


# ---- Storage


def test_full_disk(tmp_path):
    """A small tmpfs: refuses and says so, recovers when there is room, and has what it acknowledged."""
    if agg.SANITIZED:
        pytest.skip("chDB does not load beside the address sanitizer")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "aperture-test", disk], check=True)
    rng = random.Random(5)
    acknowledged = set()
    try:
        with agg.Aggregator("--data-dir", disk / "data", storage="chdb") as server, server.client() as client:

            def fill(sequence):
                samples = [("t", ("sender-0", f"batch-{sequence}", rng.randbytes(900).hex()), 1, 1) for _ in range(200)]
                payload = agg.pack(agg.make_batch(samples, agg.now_ns() - agg.SECOND))
                return client.push_status("a", sequence, payload, timeout=60)

            ballast = disk / "ballast"
            with open(ballast, "wb") as file:
                file.write(b"\0" * (40 << 20))
            status = "OK"
            sequence = 0
            while status == "OK":
                sequence += 1
                assert sequence < 2000
                status, words = fill(sequence)
                if status == "OK":
                    acknowledged.add(sequence)
            assert status == "RESOURCE_EXHAUSTED", (status, words)
            assert "space" in words.lower() or "disk" in words.lower(), words
            assert "nothing is acknowledged" in server.log()
            assert server.http("GET", "/healthz")[0] == 200
            ballast.unlink()
            support.wait_until(lambda: fill(sequence)[0] == "OK", 60, "room on the disk")
            acknowledged.add(sequence)
            assert server.http("GET", "/readyz")[0] == 200
            found = stored(client)
            assert {int(batch[6:]) for _, batch in found} == acknowledged
            assert set(found.values()) == {200}
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


@pytest.mark.sanitizer
def test_nothing_stored_yet():
    """Storage was never there: batches are not acknowledged, but what came can be looked at."""
    rng = random.Random(7)
    nowhere = f"http://127.0.0.1:{agg.free_port()}"
    with agg.Aggregator("--clickhouse-endpoint", nowhere, storage="auto") as server, server.client() as client:
        everything = []
        for sequence in range(1, 6):
            samples = [("t", ("main", f"f{rng.randrange(9)}"), 1, rng.randrange(100)) for _ in range(50)]
            batch = agg.pack(agg.make_batch(samples, agg.now_ns() - agg.SECOND))
            everything += samples
            for _ in range(3):
                assert client.push_status("a", sequence, batch, timeout=60)[0] == "UNAVAILABLE"
        assert client.push_status("a", 9, b"x")[0] == "INVALID_ARGUMENT"  # never to be sent again
        assert [row.sequence for row in client.query().batches] == [5, 4, 3, 2, 1]
        answer, sums = client.aggregate(max_nodes=100), agg.Sums(everything)
        assert answer.provenance.source == "memory" and answer.provenance.batches == 5
        assert {row.function: row.self for row in answer.functions} == {**sums.self_value, "main": 0}
        assert answer.tree.value[0] == sums.value
        half_hour = client.selector(from_ns=agg.now_ns() - 1800 * agg.SECOND)
        assert client.diff(client.selector(), half_hour).after.value == sums.value
        assert client.status("QueryStorage", client.messages.QueryStorageRequest(selector=client.selector()))[0] == (
            "UNAVAILABLE"
        )
        assert server.metrics()["aperture_ready"] == 0


def test_storage_stopped(tmp_path):
    """The server behind it ends and starts again: nothing is acknowledged meanwhile, nothing is lost or there twice."""
    database = clickhouse.ClickHouse(tmp_path)
    args = ("--clickhouse-endpoint", database.endpoint)
    with agg.Aggregator(*args, storage="clickhouse") as server, server.client() as client:

        def health():
            with server.channel() as channel:
                return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)

        # It starts without it, says so, and answers from its ring buffer.
        assert (server.http("GET", "/healthz")[0], server.http("GET", "/readyz")[0]) == (200, 503)
        assert health() == b"\x08\x02"
        assert client.push_status("early", 1, numbered(9, 9))[0] == "UNAVAILABLE"
        assert client.status("Aggregate", client.messages.AggregateRequest(selector=client.selector()))[0] in (
            "OK", "UNAVAILABLE",
        )
        with database:
            support.wait_until(lambda: server.http("GET", "/readyz")[0] == 200, 60, "the storage")
            assert health() == b"\x08\x01"
            client.push("early", 1, numbered(9, 9))
            senders = Senders(lambda: server)
            senders.acknowledged.add((9, 9))
            senders.sent.add((9, 9))
            senders.start()
            support.wait_until(lambda: len(senders.acknowledged) > 20, 60, "acknowledged batches")
            for _ in range(2):
                database.stop()
                support.wait_until(lambda: server.http("GET", "/readyz")[0] == 503, 60, "the storage's absence")
                away = len(senders.acknowledged)
                assert health() == b"\x08\x02"
                assert client.push_status("other", 1, numbered(8, 1), timeout=60)[0] == "UNAVAILABLE"
                assert len(senders.acknowledged) == away
                database.start()
                support.wait_until(lambda: len(senders.acknowledged) > away + 20, 60, "acknowledged batches")
            senders.stop()
            senders.check(stored(client))
            assert senders.statuses["UNAVAILABLE"] and set(senders.statuses) == {"OK", "UNAVAILABLE"}
            said = server.log().count("nothing is acknowledged")
            assert 1 <= said <= 4, server.log()
            assert server.metrics()["aperture_storage_away_total"] >= 3
            assert server.end() < GRACE and server.rc == 0


# ---- Crowds


def test_idle_connections():
    """10,000 connections that say nothing: bounded memory, and the eleventh thousand is still served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    cnt = 10000 if hard == resource.RLIM_INFINITY or hard >= 10600 else hard - 600
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 12000) if hard > 0 else 12000, hard))
    idle = []
    try:
        with agg.Aggregator() as server, server.client() as client:
            client.push("a", 1, numbered(0, 1))
            before = server.metrics()["process_resident_memory_bytes"]
            for port, words in ((server.port, HTTP2_PREFACE), (server.http_port, b"")):
                for _ in range(cnt // 2):
                    idle.append(socket.create_connection(("127.0.0.1", int(port)), timeout=30))
                    idle[-1].sendall(words)
            support.wait_until(lambda: server.metrics()["process_open_fds"] >= cnt * 0.95, 30, "open connections")
            client.push("a", 2, numbered(0, 2), timeout=30)
            metrics = server.metrics()
            grown = metrics["process_resident_memory_bytes"] - before
            print(f"{grown / cnt:.0f} bytes of memory a connection")
            assert grown < 100_000 * cnt, grown  # bytes a connection
            with server.client() as another:
                another.push("a", 3, numbered(0, 3), timeout=30)
            for one in idle:
                one.close()
            idle.clear()
            support.wait_until(lambda: server.metrics()["process_open_fds"] < 200, 60, "closed connections")
            assert server.end() < GRACE and server.rc == 0
    finally:
        for one in idle:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.sanitizer
def test_many_agents():
    """200 agents at once: everything is stored once, memory stays within what was given."""
    samples = [("t", ("main", f"f{i % 50}", f"g{i}"), 1, 1000) for i in range(500)]
    payload = agg.pack(agg.make_batch(samples, agg.now_ns() - agg.SECOND))
    rounds = 3 if agg.SANITIZED else 20
    with agg.Aggregator("--memory-size", "64M", "--buffer-size", "8M", "--queue-size", "32M") as server:
        with server.client() as client, concurrent.futures.ThreadPoolExecutor(50) as pool:

            def push(job):
                agent, sequence = job
                while client.push_status(f"agent-{agent}", sequence, payload, timeout=60)[0] != "OK":
                    pass

            list(pool.map(push, [(agent, sequence) for sequence in range(1, rounds + 1) for agent in range(200)]))
            metrics = server.metrics()
            assert metrics['aperture_push_total{status="ok"}'] == 200 * rounds
            if not agg.SANITIZED:
                assert metrics["process_resident_memory_bytes"] < 400 << 20
            assert server.end() < GRACE and server.rc == 0
