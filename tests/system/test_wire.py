# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Our messages, read and written by a client that knows only the .proto files that are shipped."""
import importlib
import json
import pathlib
import subprocess
import sys

import pytest
import zstandard
from grpc_tools import protoc

from support import BUILD, CRASH

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = BUILD / "tests" / "wire-sample"
START_NS = 1790000000123456789
LOSSES = ("ring_full", "missed", "no_stack", "table_full", "bad_record", "sideband", "no_scratch", "map_full")

pytestmark = pytest.mark.sanitizer


@pytest.fixture(scope="module")
def proto(tmp_path_factory):
    """The modules that Google's compiler makes of our files: (batch, aggregator)."""
    out = tmp_path_factory.mktemp("proto")
    files = [str(path) for path in sorted((ROOT / "proto" / "aperture" / "v1").glob("*.proto"))]
    assert protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", *files]) == 0
    sys.path.insert(0, str(out))
    try:
        yield tuple(importlib.import_module(f"aperture.v1.{name}_pb2") for name in ("batch", "aggregator"))
    finally:
        sys.path.remove(str(out))


def sample(what, data=b"", rc=0):
    run = subprocess.run([SAMPLE, what], input=data, capture_output=True, timeout=60)
    err = run.stderr.decode()
    assert run.returncode == rc and not CRASH.search(err), err
    return run.stdout if rc == 0 else err


def batch_of(proto, request):
    frame = zstandard.get_frame_parameters(request.batch)
    data = zstandard.ZstdDecompressor().decompress(request.batch)
    assert frame.content_size == len(data)
    return proto[0].Batch.FromString(data)


@pytest.fixture(scope="module")
def pushed(proto):
    """A push written by C: the request and the batch in it."""
    request = proto[1].PushRequest.FromString(sample("push"))
    return request, batch_of(proto, request)


def test_a_push_of_ours_is_read(proto, pushed):
    request, batch = pushed
    assert (request.agent_id, request.epoch, request.sequence) == ("host-7:sample", 1 << 63, 42)
    assert (batch.schema, batch.start_unix_ns, batch.duration_ns) == (1, START_NS, 5 * 10**9)
    assert {label.name: label.value for label in batch.labels} == {"host": "host-7", "service": "café", "zone": ""}
    assert (batch.agent.kernel, batch.agent.cpus_online, batch.agent.spool_dropped_events) == ("6.18.0", 2, 109)
    kinds = [proto[0].Kind.Name(profile.kind) for profile in batch.profiles]
    assert kinds == ["KIND_CPU", "KIND_OFFCPU", "KIND_LOCK", "KIND_SYSCALL", "KIND_GPU"]
    assert [(row.module, row.reason, row.samples) for row in batch.unresolved] == [
        ("/usr/lib/libc.so.6", 1, 30),
        ("[kernel]", 4, 20),
    ]
    assert (batch.left_out[0].kind, batch.left_out[0].reason) == (5, "no device")


def test_columns_of_ours_fit_together(proto, pushed):
    for profile in pushed[1].profiles:
        strings, mappings, frames = len(profile.strings), profile.mappings, profile.frames
        assert profile.strings[0] == b""
        assert len({len(column) for _, column in mappings.ListFields()}) == 1
        assert len({len(column) for _, column in frames.ListFields()}) == 1
        assert max([*mappings.path, *frames.function, *frames.file]) < strings
        assert max(frames.mapping) < len(mappings.path)
        stacks, series, samples = profile.stacks, profile.series, profile.samples
        assert sum(stacks.length) == len(stacks.frames) and len(stacks.length) == len(stacks.truncated)
        assert all(frame < len(frames.kind) for frame in stacks.frames)
        assert len(series.pid) == len(series.comm) == len(series.exe) == len(series.container)
        assert len(samples.series) == len(samples.stack) == len(samples.count) == len(samples.value)
        assert len(samples.slot) == (len(samples.count) if profile.slot_ns else 0)
        assert all(row < len(stacks.length) for row in samples.stack)
        assert all(row < len(series.pid) for row in samples.series)
    cpu = pushed[1].profiles[0]
    assert (cpu.period_ns, cpu.slot_ns) == (10101010, 20_000_000)
    assert sum(cpu.samples.count) == sum(1 + i % 3 for i in range(60))
    assert sum(cpu.samples.value) == sum(10101010 + i for i in range(60))
    assert cpu.account.expected == 1000 and len(cpu.account.losses) == 8


def test_tables_of_ours_agree_with_the_document(pushed):
    request, batch = pushed
    document = json.loads(sample("read-push", request.SerializeToString()))["document"]
    lock, call = batch.profiles[2], batch.profiles[3]
    shown = document["profiles"][2]["locks"]
    assert [(row.waits, row.total_ns, f"0x{row.address:x}", row.kernel) for row in lock.locks] == [
        (row["waits"], row["total_ns"], row["address"], row["kernel"]) for row in shown
    ]
    for row, other in zip(lock.locks, shown):
        assert sum(row.histogram.counts) == sum(bucket["count"] for bucket in other["histogram"])
        assert [side.total_ns for side in row.waiters] == [side["total_ns"] for side in other["waiters"]]
        assert [pair.count for pair in row.pairs] == [pair["count"] for pair in other["pairs"]]
        assert len(row.waiters) <= 32 and len(row.wakers) <= 32 and len(row.pairs) <= 64
    shown = document["profiles"][3]["syscalls"]
    assert [(row.name, row.count, row.total_ns) for row in call.syscalls] == [
        (row["name"], row["count"], row["total_ns"]) for row in shown
    ]
    assert [list(row.error_counts) for row in call.syscalls] == [list(row["errors"].values()) for row in shown]


def foreign_batch(proto, slots=True):
    """A batch as another agent might write it: tables in its own order, what is not needed left out."""
    b = proto[0]
    batch = b.Batch(schema=1, start_unix_ns=START_NS, duration_ns=10**9)
    batch.agent.version = "9"
    batch.agent.host = "elsewhere"
    batch.labels.add(name="zone", value="ü")
    batch.labels.add(name="host", value="elsewhere")
    profile = batch.profiles.add(kind=b.KIND_CPU, period_ns=10**7, slot_ns=10**8 if slots else 0)
    profile.strings.extend([b"", b"spin", b"main", b"all", b"py\xff", b"main"])
    profile.mappings.path.extend([0, 4])
    profile.mappings.build_id.extend([b"", b"\1\2\3"])
    for column in (profile.mappings.start, profile.mappings.limit, profile.mappings.file_offset):
        column.extend([0, 4096])
    frames = profile.frames
    frames.kind.extend([0, b.FRAME_KIND_NATIVE, b.FRAME_KIND_NATIVE])
    frames.function.extend([0, 1, 5])
    frames.mapping.extend([0, 1, 1])
    frames.offset.extend([0, 16, 32])
    for column in (frames.flags, frames.file, frames.line):
        column.extend([0, 0, 0])
    profile.stacks.length.extend([2, 1])
    profile.stacks.truncated.extend([0, 1])
    profile.stacks.frames.extend([1, 2, 2])
    profile.series.pid.append(7)
    profile.series.comm.append(2)
    profile.series.exe.append(0)
    profile.series.container.append(0)
    profile.samples.series.extend([0, 0, 0])
    profile.samples.stack.extend([0, 1, 0])  # the first one twice
    profile.samples.count.extend([3, 1, 2])
    profile.samples.value.extend([30, 10, 20])
    if slots:
        profile.samples.slot.extend([0, 9, 0])
    profile.account.expected = profile.account.delivered = 6
    profile.account.losses.extend([0, 0, 4])
    return batch


def push_of(proto, batch, compress=zstandard.ZstdCompressor().compress):
    request = proto[1].PushRequest(agent_id="py", epoch=5, sequence=1)
    request.batch = compress(batch.SerializeToString())
    return request.SerializeToString()


def test_a_push_of_theirs_is_read(proto):
    read = json.loads(sample("read-push", push_of(proto, foreign_batch(proto))))
    assert (read["agent_id"], read["epoch"], read["sequence"]) == ("py", 5, 1)
    assert (read["start_ns"], read["duration_ns"]) == (START_NS, 10**9)
    assert read["labels"] == {"host": "elsewhere", "zone": "ü"}
    assert read["slots"] == [0, 9, 0]
    profile = read["document"]["profiles"][0]
    root = profile["root"]
    assert (profile["kind"], root["value"], root["samples"]) == ("cpu", 60, 6)
    (process,) = root["children"]
    by_name = {child["name"]: child for child in process["children"]}
    assert process["name"] == "main" and by_name["main"]["value"] == 50
    assert by_name["[truncated]"]["value"] == 10
    assert by_name["main"]["children"][0]["name"] == "spin"
    assert by_name["main"]["module"].startswith("py")
    assert read["document"]["losses"]["no_stack"] == 4


def test_frames_of_theirs(proto):
    """Without a stated size, at any level, with a checksum."""
    want = sample("read-push", push_of(proto, foreign_batch(proto)))
    for level in (-5, 1, 19):
        for size in (True, False):
            compressor = zstandard.ZstdCompressor(level=level, write_content_size=size, write_checksum=True)
            assert sample("read-push", push_of(proto, foreign_batch(proto), compressor.compress)) == want


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda b: b.profiles[0].samples.stack.append(1), "samples: columns of"),
        (lambda b: b.profiles[0].stacks.frames.__setitem__(0, 3), "there is no frame 3"),
        (lambda b: b.profiles[0].frames.function.__setitem__(1, 6), "there is no string 6"),
        (lambda b: b.labels.pop(), "no label host"),
        (lambda b: b.labels.add(name="pid", value="1"), "reserved"),
        (lambda b: b.profiles.add(kind=1), "two of kind cpu"),
        (lambda b: b.profiles.add(kind=77), "no kind 77"),
        (lambda b: b.profiles[0].locks.add(), "locks in a profile of kind cpu"),
        (lambda b: setattr(b, "duration_ns", 3601 * 10**9), "more than an hour"),
        (lambda b: setattr(b, "schema", 2), "schema 2"),
    ],
)
def test_what_is_wrong_is_said(proto, change, words):
    batch = foreign_batch(proto)
    change(batch)
    assert words in sample("read-push", push_of(proto, batch), rc=1)


def test_damage_is_refused(proto):
    batch = foreign_batch(proto)
    assert "not a whole zstd frame" in sample("read-push", push_of(proto, batch, lambda data: data), rc=1)
    assert "not a whole zstd frame" in sample("read-push", push_of(proto, batch, lambda data: zstandard.compress(data)[:-9]), rc=1)
    twice = push_of(proto, batch, lambda data: zstandard.compress(data) * 2)
    assert "follow the zstd frame" in sample("read-push", twice, rc=1)
    bomb = push_of(proto, batch, lambda _: zstandard.compress(bytes(257 << 20)))
    assert len(bomb) < 100_000
    assert "more than 256 MiB" in sample("read-push", bomb, rc=1)
    stream = zstandard.ZstdCompressor(write_content_size=False)
    bomb = push_of(proto, batch, lambda _: stream.compress(bytes(257 << 20)))
    assert "more than 256 MiB" in sample("read-push", bomb, rc=1)


def test_questions(proto):
    b, a = proto
    ask = a.AggregateRequest.FromString(sample("ask"))
    ops = a.Matcher.Op
    assert [(m.label, m.op, m.value) for m in ask.selector.matchers] == [
        ("host", ops.EQUAL, "a"),
        ("comm", ops.NOT_EQUAL, "café"),
        ("service", ops.MATCH, "web.*"),
        ("pid", ops.NOT_MATCH, "1|2"),
    ]
    assert (ask.selector.kind, ask.limit, ask.max_nodes) == (b.KIND_LOCK, 10, 500)
    assert (ask.selector.function, ask.selector.function_regex) == ("run.*", True)
    diff = a.DiffRequest.FromString(sample("ask-diff"))
    assert diff.before == ask.selector and diff.after.kind == b.KIND_CPU and diff.limit == 20
    for kind in (a.QueryRequest, a.QueryStorageRequest, a.AggregateRequest):
        mine = kind(limit=3)
        mine.selector.kind = b.KIND_SYSCALL
        mine.selector.from_unix_ns, mine.selector.to_unix_ns = 5, 7
        mine.selector.function = "f"
        mine.selector.matchers.add(label="host", op=ops.NOT_MATCH, value="x")
        assert json.loads(sample("read-ask", mine.SerializeToString())) == {
            "kind": 4,
            "from": 5,
            "to": 7,
            "limit": 3,
            "max_nodes": 0,
            "regex": False,
            "function": "f",
            "matchers": [["host", 3, "x"]],
        }


def test_answers_come_back(proto):
    """Read here, written here, read and written there: nothing is lost on the way."""
    a = proto[1]
    kinds = {
        "batches": a.QueryResponse,
        "stacks": a.QueryStorageResponse,
        "aggregate": a.AggregateResponse,
        "diff": a.DiffResponse,
        "response": a.PushResponse,
    }
    for what, kind in kinds.items():
        message = kind.FromString(sample(what))
        assert message.ListFields()
        assert kind.FromString(sample(f"again-{what}", message.SerializeToString())) == message
        assert kind.FromString(sample(f"again-{what}")) is not None
    answer = a.AggregateResponse.FromString(sample("aggregate"))
    assert list(answer.tree.parent) == [0, 0, 1, 1] and list(answer.tree.flags) == [0, 0, 1, 6]
    assert [answer.tree.strings[name] for name in answer.tree.name] == ["all", "app", "main", ""]
    assert answer.locks[0].symbol == "queue+0x8" and answer.syscalls[0].name == "read"
    assert answer.provenance.source == "memory"
    assert dict(zip(LOSSES, answer.provenance.account.losses)) == {**dict.fromkeys(LOSSES, 0), "ring_full": 7, "missed": 3}
    assert "malformed" in sample("again-aggregate", b"\x0a\x7f", rc=1)
