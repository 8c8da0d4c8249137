# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An aggregator to test, batches to send to it, and clients made from the shipped .proto files alone."""
import atexit
import collections
import functools
import http.client
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import grpc
import zstandard

import support

PROGRAM = support.BUILD / "aperture-aggregator"
SANITIZED = "asan" in support.BUILD.name
ROOT = pathlib.Path(__file__).resolve().parents[2]
SECOND = 10**9
SLOT = 20 * 10**6  # ns
OUR_KINDS = {"cpu": 1, "offcpu": 2, "lock": 3, "syscall": 4, "gpu": 5}
NATIVE, MARK, PROCESS = 1, 7, 6
STARTED = re.compile(r"gRPC on (?:unix:\S+|\S+?:(\d+)), HTTP on (https?)://\S+?:(\d+), storing in (.*)")


@functools.cache
def stubs():
    """(messages of batches, messages of the service, its client): generated from proto/."""
    folder = tempfile.mkdtemp(prefix="aperture-stubs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = ["aperture/v1/batch.proto", "aperture/v1/aggregator.proto"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto", "--python_out", folder]
    subprocess.run([*command, "--grpc_python_out", folder, *names], check=True, cwd=ROOT)
    sys.path.insert(0, folder)
    modules = [importlib.import_module(f"aperture.v1.{name}") for name in ("batch_pb2", "aggregator_pb2")]
    return (*modules, importlib.import_module("aperture.v1.aggregator_pb2_grpc"))


def zstd(data, level=3):
    """One frame that states its content size."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(data)


class Strings:
    """A table of text; [0] is empty."""

    def __init__(self):
        self.rows = [""]
        self.index = {"": 0}

    def __call__(self, text):
        if text not in self.index:
            self.index[text] = len(self.rows)
            self.rows.append(text)
        return self.index[text]


def make_batch(samples, start_ns, duration_ns=SECOND, kind="cpu", labels=(), lost=0, host="host-1"):
    """A Batch message. `samples`: (thread name, functions from outermost to leaf, count, value[, slot])."""
    pb, _, _ = stubs()
    batch = pb.Batch(schema=1, start_unix_ns=start_ns, duration_ns=duration_ns)
    batch.agent.version, batch.agent.host, batch.agent.frequency = "test", host, 99
    batch.agent.cpus_online = 2
    for name, value in sorted({"host": host, **dict(labels)}.items()):
        batch.labels.add(name=name, value=value)
    profile = batch.profiles.add(kind=OUR_KINDS[kind], slot_ns=SLOT, period_ns=SECOND // 99)
    strings, frames, stacks, series = Strings(), {}, {}, {}
    module = strings("/usr/bin/program")
    for column, values in (("path", (0, module)), ("start", (0, 0)), ("limit", (0, 0)), ("file_offset", (0, 0))):
        getattr(profile.mappings, column).extend(values)
    profile.mappings.build_id.extend([b"", b"\1\2\3\4"])
    rows = []
    for comm, functions, count, value, *slot in samples:
        stack = tuple(frames.setdefault(strings(name), len(frames) + 1) for name in reversed(functions))
        rows.append((
            series.setdefault(strings(comm), len(series)),
            stacks.setdefault(stack, len(stacks)),
            slot[0] if slot else 0,
            count,
            value,
        ))
    for column, values in (
        ("kind", [0] + [NATIVE] * len(frames)),
        ("flags", [0] * (len(frames) + 1)),
        ("function", [0, *frames]),
        ("file", [0] * (len(frames) + 1)),
        ("line", [0] * (len(frames) + 1)),
        ("mapping", [0] + [1] * len(frames)),
        ("offset", range(len(frames) + 1)),
    ):
        getattr(profile.frames, column).extend(values)
    profile.stacks.length.extend(len(stack) for stack in stacks)
    profile.stacks.truncated.extend(0 for stack in stacks)
    profile.stacks.frames.extend(frame for stack in stacks for frame in stack)
    for comm in series:
        profile.series.pid.append(1000)
        profile.series.comm.append(comm)
        profile.series.exe.append(0)
        profile.series.container.append(0)
    for column, values in zip(("series", "stack", "slot", "count", "value"), zip(*rows)):
        getattr(profile.samples, column).extend(values)
    profile.strings.extend(text.encode() for text in strings.rows)
    delivered = sum(row[3] for row in rows)
    profile.account.expected, profile.account.delivered = delivered + lost, delivered
    profile.account.losses.extend([lost] + [0] * 7)
    return batch


def pack(batch):
    return zstd(batch.SerializeToString())


class Sums:
    """What the answers to questions about samples must be, computed the plain way."""

    def __init__(self, samples):
        self.stacks = collections.defaultdict(lambda: [0, 0])
        self.self_value, self.total_value = collections.Counter(), collections.Counter()
        self.self_count, self.total_count = collections.Counter(), collections.Counter()
        self.count = self.value = 0
        for comm, functions, count, value, *_ in samples:
            self.stacks[(comm, *functions)][0] += count
            self.stacks[(comm, *functions)][1] += value
            self.self_value[functions[-1]] += value
            self.self_count[functions[-1]] += count
            for name in set(functions):
                self.total_value[name] += value
                self.total_count[name] += count
            self.count += count
            self.value += value


class Aggregator(support.Process):
    """An aggregator on ports of the kernel's choice; returns from the constructor when it listens."""

    def __init__(self, *args, storage="memory", token=None, wait=True, program=(PROGRAM,), env=(), **options):
        self.token = token
        self.folder = tempfile.mkdtemp(prefix="aperture-aggregator-")
        self.log_path = pathlib.Path(self.folder) / "log"
        self.port = self.http_port = None
        self.scheme = "http"
        command = [*program, "--ready-fd", "0", "--storage", storage]
        if not any(str(word).startswith("--listen") for word in args):
            command += ["--listen", "127.0.0.1:0"]
        if not any(str(word).startswith("--admin-listen") for word in args):
            command += ["--admin-listen", "127.0.0.1:0"]
        if not any(str(word).startswith("--data-dir") for word in args):
            command += ["--data-dir", f"{self.folder}/data"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("APERTURE_")}
        if "APERTURE_CHDB_LIBRARY" in os.environ:
            environment["APERTURE_CHDB_LIBRARY"] = os.environ["APERTURE_CHDB_LIBRARY"]
        environment |= {"APERTURE_AUTH_TOKEN": token} if token else {}
        ready, told = os.pipe()
        command[command.index("--ready-fd") + 1] = told
        with open(ready, "rb") as pipe, open(self.log_path, "w") as log:
            try:
                super().__init__(
                    [*command, *args],
                    stderr=log,
                    pass_fds=(told,),
                    env=environment | dict(env),
                    **options,
                )
            finally:
                os.close(told)
            began = pipe.read(1) if wait else b""
        if wait and not began:
            self.wait()
            raise AssertionError(f"the aggregator ended with {self.rc}: {self.log()}")
        if wait:
            self.port, self.scheme, self.http_port, self.stored_in = STARTED.search(self.log()).groups()

    def log(self):
        return support.read(self.log_path)

    def __exit__(self, *unused):
        alive = self.popen.poll() is None
        super().__exit__(*unused)
        log = self.log()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert alive or self.rc is not None, f"the aggregator ended by itself with {self.popen.returncode}: {log}"
        assert not support.CRASH.search(log), log

    def end(self, signum=signal.SIGTERM, timeout=30):
        """Ends it and says how long that took."""
        began = time.monotonic()
        self.stop(signum, timeout)
        return time.monotonic() - began

    # gRPC

    def channel(self, credentials=None, options=()):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), *options]
        options.append(("grpc.use_local_subchannel_pool", 1))
        target = f"127.0.0.1:{self.port}"
        if credentials:
            return grpc.secure_channel(target, credentials, options)
        return grpc.insecure_channel(target, options)

    def client(self, token=None, channel=None):
        return Client(channel or self.channel(), token or self.token)

    # HTTP

    def http(self, method, path, body=None, token=None, headers=(), context=None, timeout=30):
        """(status, headers, body as bytes)."""
        headers = dict(headers)
        token = token if token is not None else self.token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if self.scheme == "https":
            context = context or ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(
                "127.0.0.1", int(self.http_port), timeout=timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", int(self.http_port), timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def metrics(self):
        """{name{labels}: value} of /metrics, read strictly."""
        status, headers, body = self.http("GET", "/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain"), (status, headers.items())
        return parse_metrics(body.decode())


class Client:
    """Calls with a token; `call` gives the answer, or the status by name."""

    def __init__(self, channel, token=None):
        self.pb, self.messages, services = stubs()
        self.stub = services.AggregatorStub(channel)
        self.channel = channel
        self.metadata = [("authorization", f"Bearer {token}")] if token else []

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.channel.close()

    def call(self, method, request, timeout=30):
        return getattr(self.stub, method)(request, timeout=timeout, metadata=self.metadata)

    def status(self, method, request, timeout=30):
        """(name of the status, words)."""
        try:
            self.call(method, request, timeout)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    def request(self, agent, sequence, payload, epoch=1):
        payload = payload if isinstance(payload, bytes) else pack(payload)
        return self.messages.PushRequest(agent_id=agent, epoch=epoch, sequence=sequence, batch=payload)

    def push(self, agent, sequence, payload, epoch=1, timeout=30):
        return self.call("Push", self.request(agent, sequence, payload, epoch), timeout)

    def push_status(self, agent, sequence, payload, epoch=1, timeout=30):
        return self.status("Push", self.request(agent, sequence, payload, epoch), timeout)

    def selector(self, kind="cpu", from_ns=0, to_ns=0, function="", regex=False, **labels):
        selector = self.messages.Selector(
            kind=OUR_KINDS.get(kind, 0), from_unix_ns=from_ns, to_unix_ns=to_ns, function=function, function_regex=regex
        )
        for label, value in labels.items():
            selector.matchers.add(label=label, op=0, value=value)
        return selector

    def query(self, limit=0, **selector):
        selector.setdefault("kind", None)
        return self.call("Query", self.messages.QueryRequest(selector=self.selector(**selector), limit=limit))

    def stacks(self, limit=0, **selector):
        request = self.messages.QueryStorageRequest(selector=self.selector(**selector), limit=limit)
        return self.call("QueryStorage", request)

    def aggregate(self, limit=0, max_nodes=0, **selector):
        selector = self.selector(**selector)
        return self.call("Aggregate", self.messages.AggregateRequest(selector=selector, limit=limit, max_nodes=max_nodes))

    def diff(self, before, after, limit=0):
        return self.call("Diff", self.messages.DiffRequest(before=before, after=after, limit=limit))


SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (\S+)')
LABELS = re.compile(r'\{[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*")*\}')


def parse_metrics(text):
    """The text format as its specification has it: each family once, HELP and TYPE first, histograms whole."""
    values, types, family = {}, {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert family not in types and line.split(" ", 3)[3], line
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and name not in types and kind in ("counter", "gauge", "histogram"), line
            types[name] = kind
            assert kind != "counter" or name.endswith("_total"), line
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            assert not labels or LABELS.fullmatch(labels), line
            ending = r"(_bucket|_sum|_count)" if types[family] == "histogram" else ""
            assert re.fullmatch(re.escape(family) + ending, name), line
            assert name + (labels or "") not in values, line
            values[name + (labels or "")] = float(value)
    for name, kind in types.items():
        if kind == "histogram":
            check_histogram(name, values)
    return values


def check_histogram(name, values):
    buckets = collections.defaultdict(list)
    for key, value in values.items():
        match = re.fullmatch(re.escape(name) + r'_bucket\{(.*?),?le="([^"]+)"\}', key)
        if match:
            buckets[match[1]].append((float(match[2]), value))
    assert buckets, name
    for labels, rows in buckets.items():
        assert rows == sorted(rows) and rows[-1][0] == float("inf"), (name, rows)
        assert [value for _, value in rows] == sorted(value for _, value in rows), (name, rows)
        assert values[f"{name}_count" + (f"{{{labels}}}" if labels else "")] == rows[-1][1]


def now_ns():
    return time.time_ns()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
