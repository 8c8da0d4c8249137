# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The test server of the HTTP API (build/tests/api-server), a client that knows nothing of ours, and docs/openapi.yaml."""
import gzip
import http.client
import json
import pathlib
import socket
import ssl
import subprocess
import urllib.parse
import zlib

import jsonschema
import yaml

from support import BUILD, Process, pprof_class

SPEC_PATH = pathlib.Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
SERVER = BUILD / "tests" / "api-server"
START_NS = 1_795_000_000_000_000_000
RANGE = {"from": str(START_NS // 10**9 - 10), "to": str(START_NS // 10**9 + 60)}
BINARY = "application/vnd.aperture.flamegraph"


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.raw = response.status, response.headers, body
        coding = response.headers.get("Content-Encoding")
        self.body = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(coding, bytes)(body)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def type(self):
        return self.headers.get("Content-Type", "").partition(";")[0]


class Server(Process):
    """Serves on a port that the kernel chose until the test is done with it."""

    def __init__(self, *args, tls=None, host="127.0.0.1", **options):
        super().__init__([SERVER, *args], stdin=subprocess.PIPE, **options)
        self.tls, self.host = tls, host
        line = self.popen.stdout.readline()
        if not line:
            self.wait()
            raise AssertionError(f"the server ended with {self.rc}: {self.err}")
        self.port = json.loads(line)["port"]

    def connect(self, timeout=60):
        if self.tls:
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def socket(self, timeout=60):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def ask(self, path, method="GET", body=None, headers=None, params=None, connection=None):
        if params:
            path += "?" + urllib.parse.urlencode(params, doseq=True)
        own = connection or self.connect()
        try:
            own.request(method, path, body=body, headers=headers or {})
            response = own.getresponse()
            return Answer(response, response.read())
        finally:
            if connection is None:
                own.close()

    def post(self, path, document, **options):
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return self.ask(path, "POST", json.dumps(document), headers, **options)

    def load(self, body, kind="application/octet-stream", **params):
        answer = self.ask("/api/import", "POST", body, {"Content-Type": kind}, params)
        assert answer.status == 200, answer.body
        return answer.json


class Spec:
    """docs/openapi.yaml: what each operation may answer."""

    def __init__(self):
        self.document = yaml.safe_load(SPEC_PATH.read_text())
        self.registry = {"components": self.document["components"]}

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def operations(self):
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield path, method, operation

    def parameters(self, operation):
        return [self.resolve(one) for one in operation.get("parameters", ())]

    def check(self, path, method, answer):
        """The answer is one that the document allows for that path (as it stands there)."""
        operation = self.document["paths"][path][method.lower()]
        assert str(answer.status) in operation["responses"], f"{path}: undocumented status {answer.status}"
        response = self.resolve(operation["responses"][str(answer.status)])
        for name, header in response.get("headers", {}).items():
            assert not header.get("required") or name in answer.headers, name
        assert answer.type in response["content"], (path, answer.type)
        schema = response["content"][answer.type]["schema"]
        if answer.type == "application/json":
            self.validate(schema, answer.json)
        elif "const" in schema:
            assert answer.body.decode() == schema["const"]

    def validate(self, schema, value):
        validator = jsonschema.Draft202012Validator({**self.registry, **schema})
        errors = sorted(validator.iter_errors(value), key=lambda error: -len(error.absolute_path))
        assert not errors, f"{list(errors[0].absolute_path)}: {errors[0].message[:500]}"


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def read_columns(data):
    """docs/flamegraph-binary.md, read without our code: (meta, nodes as dictionaries)."""
    assert data[:5] == b"APFG\x01"

    def column(count, at):
        length, at = varint(data, at)
        end, values = at + length, []
        for _ in range(count):
            value, at = varint(data, at)
            values.append(value)
        assert at == end
        return values, at

    length, at = varint(data, 5)
    meta, at = json.loads(data[at : at + length]), at + length
    count, at = varint(data, at)
    lengths, at = column(count, at)
    strings = []
    for length in lengths:
        strings.append(data[at : at + length].decode())
        at += length
    count, at = varint(data, at)
    kinds, flags, at = data[at : at + count], data[at + count : at + 2 * count], at + 2 * count
    columns = {}
    for name in ("parent", "name", "module", "file", "line", "value", "self", "count"):
        columns[name], at = column(count, at)
    assert at == len(data)
    nodes = []
    for i in range(count):
        node = {name: values[i] for name, values in columns.items()}
        node.update(kind=kinds[i], flags=flags[i], parent=i - node["parent"])
        for name in ("name", "module", "file"):
            node[name] = strings[node[name]]
        nodes.append(node)
    return meta, nodes


def node(name, kind, samples, value, children=(), **more):
    own = value - sum(child["value"] for child in children)
    return {"name": name, "kind": kind, "value": value, "self": own, "samples": samples, "children": list(children), **more}


def document():
    """A document as the agent writes it, by hand: a CPU profile, locks and system calls."""
    hist = [{"le_ns": 1023, "count": 3}, {"le_ns": 2047, "count": 1}]
    leaf = [node(f"leaf{i}", "native", 10 - i, (10 - i) * 10**7, module="/usr/bin/app", line=7) for i in range(10)]
    main = node("main", "native", 60, 60 * 10**7, [*leaf, node("sys_read", "kernel", 5, 5 * 10**7, module="[kernel]")])
    root = node("all", "mark", 100, 10**9, [
        node("app", "process", 70, 70 * 10**7, [main, node("[truncated]", "mark", 10, 10**8, [node("lost", "jit", 10, 10**8)])]),
        node("other", "process", 30, 30 * 10**7, [node("app+0x1f0", "unknown", 30, 30 * 10**7, inlined=True)]),
    ])  # fmt: skip
    wait = [{"name": "pthread_mutex_lock", "kind": "native"}, {"name": "push", "kind": "native", "file": "/src/q.c"}]
    side = {"pid": 12, "comm": "app", "count": 4, "total_ns": 4000, "max_ns": 1500, "stack": wait}
    lock = {
        "pid": 12, "comm": "app", "address": "0x55d1c0de4040", "symbol": "queue", "type": "mutex", "kernel": False,
        "waits": 4, "total_ns": 4000, "max_ns": 1500, "histogram": hist, "timeouts": 1, "timeout_ns": 5,
        "waiters": [side], "wakers": [{"unknown": True, "count": 4, "total_ns": 4000, "max_ns": 1500, "stack": []}],
        "pairs": [{"waiter": 0, "waker": 0, "count": 4, "total_ns": 4000, "max_ns": 1500}],
    }  # fmt: skip
    call = {
        "pid": 12, "comm": "app", "name": "openat", "number": 257, "abi": "native", "count": 4, "failed": 2,
        "errors": {"ENOENT": 1, "EACCES": 1}, "total_ns": 4000, "max_ns": 1500, "histogram": hist,
    }  # fmt: skip
    losses = {"ring_full": 3, "missed": 2}
    account = {"expected": 105, "delivered": 100, "idle": 7, "out_of_scope": 1, "losses": losses}
    common = {"unit": "nanoseconds", "start_ns": START_NS, "duration_ns": 10**10}
    waits = node("all", "mark", 4, 4000, [node("app", "process", 4, 4000, [node("push", "native", 4, 4000)])])
    return {
        "schema": 1,
        "agent": {"version": "0.1.0", "host": "web-1", "kernel": "6.1", "arch": "x86_64", "cpus": 2},
        "profiles": [
            {"kind": "cpu", "period_ns": 10**7, "account": account, "root": root, **common},
            {"kind": "lock", "root": waits, "locks": [lock], **common},
            {"kind": "syscall", "root": node("all", "mark", 0, 0), "syscalls": [call], **common},
        ],
        "losses": losses,
    }


def pprof():
    """A pprof by protobuf's own encoder: 3 stacks, 60 samples."""
    profile = pprof_class()()
    strings = ["", "samples", "count", "cpu", "nanoseconds", "comm", "worker", "main", "work", "/usr/bin/worker", "wait"]
    profile.string_table.extend(strings)
    for kind, unit in ((1, 2), (3, 4)):
        profile.sample_type.add(type=kind, unit=unit)
    profile.mapping.add(id=1, memory_start=0x400000, memory_limit=0x500000, filename=9)
    for number, name in ((1, 7), (2, 8), (3, 10)):
        profile.function.add(id=number, name=name, system_name=name)
        profile.location.add(id=number, mapping_id=1, address=0x400000 + number).line.add(function_id=number, line=number)
    for stack, count in (((2, 1), 30), ((3, 1), 20), ((1,), 10)):
        sample = profile.sample.add(location_id=stack, value=(count, count * 10**7))
        sample.label.add(key=5, str=6)
    profile.time_nanos, profile.duration_nanos, profile.period = START_NS, 10**10, 10**7
    return gzip.compress(profile.SerializeToString())
