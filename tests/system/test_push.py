# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Agents and aggregators together: what an agent records arrives once, whatever happens to either of them or between."""
import os
import re
import signal
import time

import pytest

import support
from aggregator import Aggregator
from support import AGENT, Agent, Process, load

CLOSING = re.compile(
    r"(\d+) events in (\d+) batches for \S+; (\d+) events lost, (\d+) batches dropped, (\d+) batches wait in the spool"
)


class Sender(Agent):
    """An agent that sends every second; `told` has what it says at its end."""

    def __init__(self, port, spool, *args, mode="cpu", **options):
        url = f"http://127.0.0.1:{port}"
        super().__init__(
            "--aggregator", url, "--spool-dir", spool, "--push-interval", "1s", "--agent-id", "agent-1", *args,
            mode=mode, **options
        )

    @property
    def told(self):
        match = CLOSING.search(self.err)
        assert match, self.err
        return dict(zip(("events", "batches", "lost", "dropped", "waiting"), map(int, match.groups())))


def spooled(folder):
    return sorted(path.name for path in folder.glob("*.batch"))


def stored(server, **selector):
    """{kind: events} of all stored batches, each of which is there once."""
    with server.client() as client:
        rows = client.query(limit=10000, **selector).batches
    ids = [(row.agent_id, row.epoch, row.sequence) for row in rows]
    assert len(ids) == len(set(ids))
    sums = {}
    for row in rows:
        for kind in row.kinds:
            sums[kind.kind] = sums.get(kind.kind, 0) + kind.events
    return sums


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.mark.sanitizer
def test_all_kinds_arrive(spool):
    with Aggregator() as server, load("load-deep", 60, 0) as target:
        with Sender(
            server.port, spool, "--pid", target.pid, "--duration", "5s", "--label", "service=web", mode="all"
        ) as agent:
            agent.wait(60)
        assert agent.rc == 0, agent.err
        told = agent.told
        assert told["batches"] >= 4 and told["dropped"] == told["waiting"] == 0
        assert sum(stored(server).values()) == told["events"]
        assert spooled(spool) == []
        with server.client() as client:
            answer = client.aggregate(limit=1000, kind="cpu", service="web")
            names = {row.function: row for row in answer.functions}
            assert answer.provenance.samples == stored(server)[1] > 100
            assert answer.provenance.account.expected >= answer.provenance.account.delivered
            for name in ("main", "recurse", "outer::Worker::run(int)", "demo::spin"):
                assert names[name].total_count > 0.9 * answer.provenance.samples, name
            assert not client.aggregate(kind="cpu", service="other").functions
            calls = client.aggregate(kind="syscall").syscalls
            assert all(row.comm for row in calls)


def test_spans_have_what_one_recording_has(spool):
    """Nothing falls between two spans: CPU time in the batches is what the program used."""
    with Aggregator() as server, load("load-deep", 60, 0) as target:
        with Sender(server.port, spool, "--pid", target.pid, "--frequency", 499) as agent:
            before = support.cpu_seconds(target.pid)
            time.sleep(6)
            used = support.cpu_seconds(target.pid) - before
            agent.stop(signal.SIGINT)
        assert agent.rc == 0, agent.err
        with server.client() as client:
            answer = client.aggregate(kind="cpu")
        sampled = answer.provenance.value / 1e9 + answer.provenance.account.losses[1] / 499
        assert abs(sampled / used - 1) < 0.1
        account = answer.provenance.account
        lost = sum(account.losses[reason] for reason in (0, 1, 3, 4, 6, 7))
        assert account.expected == account.delivered + lost


def test_idle_time_is_not_missed(spool):
    """On a host with little to do most ticks do not fire, which no span may take for losses."""
    # cut between two of the agent's looks at how long CPUs were idle, which are a second apart
    with Aggregator() as server, Sender(server.port, spool, "--push-interval", "1700ms") as agent:
        time.sleep(6)
        agent.stop(signal.SIGINT)
        assert agent.rc == 0, agent.err
        with server.client() as client:
            account = client.aggregate(kind="cpu").provenance.account
        assert account.losses[1] < 0.05 * 6 * 99 * os.cpu_count()


def test_what_cannot_be_sent_waits_on_disk(spool):
    port = support.free_port()
    with load("load-deep", 60, 0) as target:
        with Sender(port, spool, "--pid", target.pid, "--duration", "3s") as agent:
            agent.wait(60)
        assert agent.rc == 1
        assert "connection refused" in agent.err and "kept in" in agent.err, agent.err
        first = agent.told
        assert first["waiting"] == len(spooled(spool)) == first["batches"] >= 2
        with Aggregator("--listen", f"127.0.0.1:{port}") as server:
            with Sender(port, spool, "--pid", target.pid, "--duration", "2s") as agent:
                agent.wait(60)
            assert agent.rc == 0, agent.err
            assert agent.told["waiting"] == 0 and spooled(spool) == []
            assert stored(server) == {1: first["events"] + agent.told["events"]}
            with server.client() as client:
                rows = client.query(limit=100).batches
                assert len(rows) == first["batches"] + agent.told["batches"]
                times = [row.start_unix_ns for row in sorted(rows, key=lambda row: (row.epoch, row.sequence))]
                assert times == sorted(times)


def test_an_aggregator_that_comes_back(spool):
    """The agent goes on meanwhile, says so once, and sends everything afterwards."""
    port = support.free_port()
    with load("load-deep", 60, 0) as target:
        with Sender(port, spool, "--pid", target.pid) as agent:
            support.wait_until(lambda: len(spooled(spool)) >= 3, what="batches in the spool")
            with Aggregator("--listen", f"127.0.0.1:{port}") as server:
                support.wait_until(lambda: not spooled(spool), 60, "an empty spool")
                agent.stop(signal.SIGINT)
                assert agent.rc == 0, agent.err
                assert agent.err.count("are kept in") == 1 and "again" in agent.err, agent.err
                assert stored(server) == {1: agent.told["events"]}


def test_a_killed_agent(spool):
    """What it had spooled is sent by the next one, once."""
    port = support.free_port()
    with load("load-deep", 60, 0) as target:
        with Sender(port, spool, "--pid", target.pid) as agent:
            support.wait_until(lambda: len(spooled(spool)) >= 3, what="batches in the spool")
            agent.popen.send_signal(signal.SIGKILL)
            agent.popen.wait(30)
        waiting = spooled(spool)
        with Aggregator("--listen", f"127.0.0.1:{port}") as server:
            with Sender(port, spool, "--pid", target.pid, "--duration", "2s") as agent:
                agent.wait(60)
            assert agent.rc == 0, agent.err
            with server.client() as client:
                rows = client.query(limit=100).batches
            names = {f"{row.epoch:020}-{row.sequence:020}.batch" for row in rows}
            assert names >= set(waiting) and len(rows) == len(waiting) + agent.told["batches"]


def test_a_damaged_batch_is_dropped_and_counted(spool):
    with load("load-deep", 60, 0) as target:
        with Sender(
            support.free_port(), spool, "--pid", target.pid, "--spool-size", "1M", "--duration", "2s", mode="cpu"
        ) as agent:
            agent.wait(60)
        kept = spooled(spool)
        junk = spool / "00000000000000000001-00000000000000000001.batch"
        junk.write_bytes(b"x" * 100)  # not a batch: dropped, counted, said
        with Sender(
            support.free_port(), spool, "--pid", target.pid, "--spool-size", "1M", "--duration", "2s", mode="cpu"
        ) as agent:
            agent.wait(60)
        assert "damaged" in agent.err and agent.told["dropped"] == 1
        assert set(kept) <= set(spooled(spool))


def test_tokens(spool):
    with Aggregator(token="right") as server, load("load-deep", 60, 0) as target:
        with Sender(server.port, spool, "--pid", target.pid, "--duration", "2s", "--auth-token", "wrong") as agent:
            agent.wait(60)
        assert agent.rc == 1 and agent.told["waiting"] == agent.told["batches"], agent.err
        assert "token" in agent.err
        env = os.environ | {"APERTURE_AUTH_TOKEN": "right"}
        with Sender(server.port, spool, "--pid", target.pid, "--duration", "2s", env=env) as agent:
            agent.wait(60)
        assert agent.rc == 0 and spooled(spool) == [], agent.err


@pytest.mark.parametrize(
    "args, words",
    [
        (("--label", "service=web"), "--label needs --aggregator"),
        (("--aggregator", "http://127.0.0.1:1", "--label", "web"), "NAME=VALUE"),
        (("--aggregator", "http://127.0.0.1:1", "--label", "pid=1"), "pid"),
        (("--aggregator", "http://127.0.0.1:1", "--agent-id", "a b"), "--agent-id"),
        (("--aggregator", "http://127.0.0.1:1", "--output", "x.svg"), "--output"),
        (("--aggregator", "http://127.0.0.1:1", "--tls-cert", "x.pem"), "--tls-key"),
        (("--aggregator", "http://127.0.0.1:1", "--push-interval", "1ms"), "--push-interval"),
    ],
)
def test_usage(args, words, tmp_path):
    with Process([AGENT, "--mode", "cpu", "--spool-dir", tmp_path / "spool", *args], cwd=tmp_path) as agent:
        agent.wait(30)
    assert agent.rc == support.USAGE and words in agent.err, agent.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["127.0.0.1:50051", "ftp://127.0.0.1", "http://", "http://host:99999"])
def test_addresses(url, tmp_path):
    with Process([AGENT, "--mode", "cpu", "--spool-dir", tmp_path / "spool", "--aggregator", url]) as agent:
        agent.wait(30)
    assert agent.rc != 0 and url in agent.err, agent.err


def test_one_spool_for_each_agent(spool):
    port = support.free_port()
    with Sender(port, spool) as agent:
        with Process([AGENT, "--aggregator", f"http://127.0.0.1:{port}", "--spool-dir", spool]) as second:
            second.wait(30)
        assert second.rc == 1 and "--spool-dir" in second.err, second.err
        agent.stop(signal.SIGINT)
        assert agent.rc == 1 and agent.told["waiting"] == len(spooled(spool)) > 0, agent.err
