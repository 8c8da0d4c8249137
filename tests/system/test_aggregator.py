# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Batches in, answers out: what independent clients see of the aggregator."""
import concurrent.futures
import random
import struct
from collections import Counter

import grpc
import pytest

import aggregator as agg

pytestmark = pytest.mark.sanitizer
FUNCTIONS = ("main", "parse", "render", "hash_join", "memcpy", "lock", "read_block", "compress")


def random_samples(rng, cnt=200):
    """Stacks with recursion, several threads, counts and values that do not follow from each other."""
    rows = {}
    for _ in range(cnt):
        comm = rng.choice(("worker", "ui", "gc"))
        functions = ("main", *rng.choices(FUNCTIONS, k=rng.randint(1, 6)))
        rows[(comm, functions, rng.randrange(50))] = (rng.randint(1, 9), rng.randint(1, 10**9))
    return [(comm, functions, count, value, slot) for (comm, functions, slot), (count, value) in rows.items()]


STORAGES = ("memory", pytest.param("chdb", marks=pytest.mark.skipif(agg.SANITIZED, reason="chDB does not load there")))


@pytest.fixture
def server(request):
    """Over memory, or what the test asks for with @on_each_storage."""
    with agg.Aggregator(storage=getattr(request, "param", "memory")) as one:
        yield one


on_each_storage = pytest.mark.parametrize("server", STORAGES, indirect=True)


@pytest.fixture
def client(server):
    with server.client() as one:
        yield one


def check_functions(answer, sums, limit=10**6):
    rows = {row.function: row for row in answer.functions}
    assert len(rows) == len(answer.functions) == min(limit, len(sums.total_value))
    assert answer.function_total == len(sums.total_value)
    for name, row in rows.items():
        assert (row.self, row.total) == (sums.self_value[name], sums.total_value[name]), name
        assert (row.self_count, row.total_count) == (sums.self_count[name], sums.total_count[name]), name
    assert [row.self for row in answer.functions] == sorted((row.self for row in answer.functions), reverse=True)


def check_tree(tree, sums):
    """Nodes are the prefixes of stacks; values add up."""
    names, expected = [], {}
    for stack, (count, value) in sums.stacks.items():
        for depth in range(len(stack) + 1):
            node = expected.setdefault(stack[:depth], [0, 0, 0])
            node[0] += value
            node[2] += count
        expected[stack][1] += value
    for index, (parent, name) in enumerate(zip(tree.parent, tree.name)):
        assert parent < index or index == 0
        names.append((*names[parent], tree.strings[name]) if index else ())
    got = {name: [tree.value[i], tree.self[i], tree.count[i]] for i, name in enumerate(names)}
    assert len(got) == len(names)
    assert got == expected


@on_each_storage
def test_sums_of_many_batches(server, client):
    """Query, QueryStorage and Aggregate give what the same samples give added up here."""
    rng = random.Random(1)
    start, everything, by_host = agg.now_ns() - 300 * agg.SECOND, [], {"h0": [], "h1": []}
    for sequence in range(1, 41):
        host = f"h{sequence % 2}"
        samples = random_samples(rng)
        batch = agg.make_batch(samples, start + sequence * agg.SECOND, lost=sequence, host=host)
        answer = client.push(f"agent-{host}", sequence, batch)
        assert not answer.duplicate and answer.pause_ms == 0
        everything += samples
        by_host[host] += samples
    sums = agg.Sums(everything)

    stacks = client.stacks(limit=100000)
    assert {tuple(row.functions): [row.count, row.value] for row in stacks.stacks} == dict(sums.stacks)
    assert stacks.stack_total == len(sums.stacks)
    assert stacks.provenance.samples == sums.count and stacks.provenance.value == sums.value
    assert [row.value for row in stacks.stacks] == sorted((row.value for row in stacks.stacks), reverse=True)
    top = client.stacks(limit=3)
    assert list(top.stacks) == list(stacks.stacks)[:3] and top.stack_total == stacks.stack_total

    answer = client.aggregate(limit=1000, max_nodes=100000)
    check_functions(answer, sums)
    check_tree(answer.tree, sums)
    provenance = answer.provenance
    assert (provenance.samples, provenance.value, provenance.batches) == (sums.count, sums.value, 40)
    assert provenance.account.delivered == sums.count
    assert provenance.account.expected == sums.count + sum(range(1, 41))
    assert provenance.account.losses[0] == sum(range(1, 41))
    check_functions(client.aggregate(limit=1000, host="h1"), agg.Sums(by_host["h1"]))
    check_functions(client.aggregate(limit=1000, agent="agent-h0"), agg.Sums(by_host["h0"]))
    ui = [sample for sample in everything if sample[0] == "ui"]
    check_functions(client.aggregate(limit=1000, comm="ui"), agg.Sums(ui))
    joined = [sample for sample in everything if "hash_join" in sample[1]]
    check_functions(client.aggregate(limit=1000, function="sh_jo"), agg.Sums(joined))
    assert len(client.aggregate(limit=2).functions) == 2
    assert not client.aggregate(host="h7").functions

    rows = client.query(limit=1000).batches
    assert [row.sequence for row in rows] == list(range(40, 0, -1))
    assert rows[0].agent_id == "agent-h0" and rows[0].start_unix_ns == start + 40 * agg.SECOND
    assert sum(row.kinds[0].value for row in rows) == sums.value
    assert sum(row.kinds[0].events for row in rows) == sums.count
    assert sum(row.kinds[0].lost for row in rows) == sum(range(1, 41))
    assert len(client.query(limit=7).batches) == 7
    assert {row.sequence % 2 for row in client.query(limit=1000, host="h1").batches} == {1}

    metrics = server.metrics()
    assert metrics['aperture_push_total{status="ok"}'] == 40
    assert metrics["aperture_push_events_total"] == sums.count
    assert metrics['aperture_agent_losses_total{reason="ring_full"}'] == sum(range(1, 41))
    assert metrics["aperture_storage_flush_rows_total"] == len(everything)
    assert metrics["aperture_buffer_batches"] == 40 and metrics["aperture_buffer_drops_total"] == 0
    assert metrics["aperture_storage_pending_rows"] == 0


@on_each_storage
def test_truncated_tree_keeps_its_sum(client):
    samples = [("t", ("main", f"f{i}", f"leaf{i}"), 1, 1000 - i) for i in range(100)]
    client.push("a", 1, agg.make_batch(samples, agg.now_ns() - agg.SECOND))
    tree = client.aggregate(max_nodes=20).tree
    assert len(tree.parent) <= 20 + 20  # one more for each node that something was cut from
    assert tree.value[0] == sum(sample[3] for sample in samples)
    cut = [i for i, flags in enumerate(tree.flags) if flags & 4]
    assert cut and all(tree.strings[tree.name[i]] == "[truncated]" and tree.kind[i] == agg.MARK for i in cut)
    for index, value in enumerate(tree.value):
        below = sum(tree.value[i] for i, parent in enumerate(tree.parent) if i and parent == index)
        assert value == tree.self[index] + below


@on_each_storage
def test_sent_again(client):
    """The same batch is stored once, whether it is sent later or at the same time."""
    samples = [("t", ("main", "work"), 3, 300)]
    batch = agg.pack(agg.make_batch(samples, agg.now_ns() - agg.SECOND))
    assert not client.push("a", 1, batch).duplicate
    assert client.push("a", 1, batch).duplicate
    assert not client.push("a", 1, batch, epoch=2).duplicate
    assert not client.push("b", 1, batch).duplicate
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: client.push("c", i % 8 + 1, batch).duplicate, range(64)))
    assert answers.count(False) == 8
    assert client.aggregate().provenance.samples == 3 * (3 + 8)


@on_each_storage
def test_diff(client):
    """Two windows: what grew is significant, what did not is not."""
    now = agg.now_ns()
    rng = random.Random(6)

    def spread(functions, count):
        """As many events, each of ten units, at random times within the batch."""
        return [("t", functions, cnt, 10 * cnt, slot) for slot, cnt in Counter(rng.choices(range(50), k=count)).items()]

    before = spread(("main", "steady"), 500) + spread(("main", "grows"), 100)
    after = spread(("main", "steady"), 500) + spread(("main", "grows"), 500)
    client.push("a", 1, agg.make_batch(before, now - 45 * 60 * agg.SECOND))
    client.push("a", 2, agg.make_batch(after, now - 15 * 60 * agg.SECOND))
    answer = client.diff(client.selector(), client.selector())  # newest half hour against the one before
    assert (answer.before.value, answer.after.value) == (6000, 10000)
    rows = {row.function: row for row in answer.functions}
    assert (rows["grows"].self_before, rows["grows"].self_after) == (1000, 5000)
    assert rows["grows"].self_change == pytest.approx(5000 / 10000 - 1000 / 6000)
    assert rows["grows"].significant and rows["grows"].p_value < 0.01
    assert rows["main"].total_change == pytest.approx(0)
    same = client.selector(from_ns=now - 1800 * agg.SECOND, to_ns=now)
    assert not any(row.significant for row in client.diff(same, same).functions)


@on_each_storage
def test_default_times(client):
    """Without times: the newest hour. Other times are asked for by name."""
    now = agg.now_ns()
    client.push("a", 1, agg.make_batch([("t", ("main", "old"), 1, 10)], now - 2 * 3600 * agg.SECOND))
    client.push("a", 2, agg.make_batch([("t", ("main", "new"), 1, 10)], now - 60 * agg.SECOND))
    assert {row.function for row in client.aggregate().functions} == {"main", "new"}
    assert {row.function for row in client.aggregate(from_ns=1).functions} == {"main", "new", "old"}
    older = client.aggregate(from_ns=now - 3 * 3600 * agg.SECOND, to_ns=now - 3600 * agg.SECOND)
    assert {row.function for row in older.functions} == {"main", "old"}


# ---- What is refused


def good():
    return agg.make_batch([("t", ("main", "f", "g"), 1, 10), ("u", ("main",), 2, 20)], agg.now_ns() - agg.SECOND)


def changed(change):
    batch = good()
    change(batch, batch.profiles[0])
    return agg.pack(batch)


def with_field(name, value):
    def change(_, profile):
        table, column = name.split(".")
        getattr(getattr(profile, table), column)[0] = value

    return changed(change)


def longer(name):
    def change(_, profile):
        table, column = name.split(".")
        getattr(getattr(profile, table), column).append(0)

    return changed(change)


def bomb():
    """A frame that says it unpacks to a few bytes and unpacks to many, by way of a forged header."""
    data = bytearray(agg.zstd(b"\0" * (64 << 20)))
    assert data[4] >> 6 == 2  # the size is in four bytes behind the descriptor
    data[5 if data[4] & 0x20 else 6 : 9 if data[4] & 0x20 else 10] = struct.pack("<I", 100)
    return bytes(data)



MALFORMED = {
    "empty": lambda: b"",
    "no zstd": lambda: good().SerializeToString(),
    "zstd cut": lambda: agg.pack(good())[:-5],
    "protobuf cut": lambda: agg.zstd(good().SerializeToString()[:-7]),
    "garbage inside": lambda: agg.zstd(bytes(random.Random(2).randbytes(5000))),
    "forged size": bomb,
    "past the size limit": lambda: agg.zstd(b"\0" * (257 << 20), 1),
    "zeros": lambda: agg.zstd(b"\0" * (10 << 20)),
    "schema": lambda: changed(lambda batch, _: setattr(batch, "schema", 99)),
    "sample's stack": lambda: with_field("samples.stack", 9),
    "sample's series": lambda: with_field("samples.series", 7),
    "frame's function": lambda: changed(lambda _, p: p.frames.function.__setitem__(1, 1000)),
    "frame's mapping": lambda: changed(lambda _, p: p.frames.mapping.__setitem__(1, 55)),
    "stack's frame": lambda: with_field("stacks.frames", 77),
    "series' comm": lambda: with_field("series.comm", 77),
    "mapping's path": lambda: changed(lambda _, p: p.mappings.path.__setitem__(1, 999)),
    "length of a stack": lambda: with_field("stacks.length", 500),
    "empty stack": lambda: with_field("stacks.length", 0),
    "long column": lambda: longer("samples.count"),
    "long frames": lambda: longer("frames.line"),
    "long series": lambda: longer("series.pid"),
    "huge count": lambda: with_field("samples.count", 2**64 - 1),
    "kind twice": lambda: changed(lambda batch, profile: batch.profiles.add().CopyFrom(profile)),
    "no kind": lambda: changed(lambda _, profile: setattr(profile, "kind", 0)),
    "label name": lambda: changed(lambda batch, _: batch.labels.add(name="no-dash", value="x")),
    "reserved label": lambda: changed(lambda batch, _: batch.labels.add(name="pid", value="1")),
    "label too long": lambda: changed(lambda batch, _: batch.labels.add(name="big", value="x" * 2000)),
    "too many labels": lambda: changed(
        lambda batch, _: [batch.labels.add(name=f"label_{i}", value="x") for i in range(100)]
    ),
    "days long": lambda: changed(lambda batch, _: setattr(batch, "duration_ns", 2**63)),
    "tomorrow": lambda: changed(lambda batch, _: setattr(batch, "start_unix_ns", 2**63)),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(server, client, what):
    """Refused for ever, with words, counted; nothing of it is stored and the server goes on."""
    status, words = client.push_status("a", 1, MALFORMED[what]())
    assert status == "INVALID_ARGUMENT" and words, (status, words)
    metrics = server.metrics()
    refused = [metrics[f'aperture_push_total{{status="{name}"}}'] for name in ("bad_batch", "too_large", "bad_request")]
    assert sum(refused) == 1
    assert metrics['aperture_push_total{status="ok"}'] == 0
    assert not client.push("a", 1, good()).duplicate
    assert client.aggregate().provenance.samples == 3


@pytest.mark.parametrize(
    "change",
    ({"agent_id": ""}, {"agent_id": "x" * 129}, {"agent_id": "no blanks"}, {"sequence": 0}),
    ids=lambda change: "-".join(map(str, change.items()))[:30],
)
def test_malformed_request(server, client, change):
    request = client.request("a", 1, agg.pack(good()))
    for name, value in change.items():
        setattr(request, name, value)
    status, words = client.status("Push", request)
    assert status == "INVALID_ARGUMENT" and words
    assert server.metrics()['aperture_push_total{status="bad_request"}'] == 1


def test_not_protobuf(server, client):
    for method in ("Push", "Query", "QueryStorage", "Aggregate", "Diff"):
        raw = client.channel.unary_unary(f"/aperture.v1.Aggregator/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            raw(b"\xff" * 100, timeout=10)
        assert refused.value.code().name == "INVALID_ARGUMENT", method
    raw = client.channel.unary_unary("/aperture.v1.Aggregator/Nothing")
    with pytest.raises(grpc.RpcError) as refused:
        raw(b"", timeout=10)
    assert refused.value.code().name == "UNIMPLEMENTED"


def test_message_past_the_limit(server, client):
    status, _ = client.push_status("a", 1, b"x" * (65 << 20))
    assert status == "RESOURCE_EXHAUSTED"
    assert not client.push("a", 1, good()).duplicate


def test_questions_that_cannot_be_answered(client):
    m = client.messages
    cases = (
        ("Aggregate", m.AggregateRequest(selector=client.selector(), limit=10**9)),
        ("Aggregate", m.AggregateRequest(selector=client.selector(), max_nodes=2**31)),
        ("Aggregate", m.AggregateRequest(selector=m.Selector(kind=77))),
        ("Aggregate", m.AggregateRequest(selector=client.selector(from_ns=10, to_ns=5))),
        ("Aggregate", m.AggregateRequest(selector=client.selector(function="(", regex=True))),
        ("QueryStorage", m.QueryStorageRequest(selector=client.selector(**{"no-label": "x"}))),
        ("Query", m.QueryRequest(selector=client.selector(comm="x"))),
        ("Query", m.QueryRequest(selector=client.selector(), limit=10**6)),
        ("Diff", m.DiffRequest(before=client.selector(), after=client.selector(), limit=10**9)),
    )
    for method, request in cases:
        status, words = client.status(method, request)
        assert status == "INVALID_ARGUMENT" and words, (method, status, words)


def test_buffer_makes_room():
    """The ring buffer is bounded by bytes; what leaves it is counted, and stays stored."""
    rng = random.Random(3)
    with agg.Aggregator("--buffer-size", "1M") as server, server.client() as client:
        for sequence in range(1, 31):
            samples = [("t", (f"{rng.randbytes(900).hex()}", f"{i}"), 1, 1) for i in range(60)]
            client.push("a", sequence, agg.make_batch(samples, agg.now_ns() - agg.SECOND))
        answer = client.query(limit=100)
        assert 0 < len(answer.batches) < 30 and answer.dropped == 30 - len(answer.batches)
        assert sum(row.bytes for row in answer.batches) <= 1 << 20
        metrics = server.metrics()
        assert metrics["aperture_buffer_drops_total"] == answer.dropped
        assert metrics["aperture_buffer_bytes"] <= metrics["aperture_buffer_max_bytes"] == 1 << 20
        assert client.aggregate().provenance.batches == 30


def test_queue_full(tmp_path):
    """More at once than the queue holds: RESOURCE_EXHAUSTED, later taken; each once."""
    samples = [("t", ("main", f"f{i}"), 1, 1) for i in range(4000)]
    payload = agg.pack(agg.make_batch(samples, agg.now_ns() - agg.SECOND))
    with agg.Aggregator("--queue-size", "1M") as server, server.client() as client:

        def push(sequence):
            refusals = 0
            while True:
                status, _ = client.push_status("a", sequence, payload)
                if status == "OK":
                    return refusals
                assert status == "RESOURCE_EXHAUSTED"
                refusals += 1

        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            refusals = sum(pool.map(push, range(1, 101)))
        metrics = server.metrics()
        assert metrics['aperture_push_total{status="queue_full"}'] == refusals
        assert metrics['aperture_push_total{status="ok"}'] == 100
        assert client.aggregate().provenance.samples == 100 * 4000
