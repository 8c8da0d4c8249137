# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the profile says about time is true: shares, rates and the account of samples."""
import collections
import os
import shutil
import signal

import pytest

import support
from support import Agent, Document, Process, load

SHARES = {"share_fifty": 0.50, "share_thirty": 0.30, "share_twenty": 0.20}
POINTS = 0.02


def of_load(document):
    """Samples of load-shares by function, and all of them: its threads are named worker-N."""
    workers = [node for node in document.root["children"] if node["name"].startswith("worker-")]
    total = sum(node["samples"] for node in workers)
    return {name: sum(support.named(node, name) for node in workers) for name in (*SHARES, "work")}, total


def perf_shares(tool, path):
    """Inclusive share of each function in a perf.data file, and the number of samples."""
    counts, total = collections.Counter(), 0
    for block in tool("perf", "script", "-i", path, "-F", "comm,ip,sym").stdout.split("\n\n"):
        lines = block.strip("\n").splitlines()
        if not lines or not lines[0].startswith("worker-"):
            continue
        total += 1
        counts.update({line.split()[1] for line in lines[1:] if len(line.split()) > 1})
    return {name: counts[name] / max(total, 1) for name in (*SHARES, "work")}, total


def test_shares_are_true_and_agree_with_perf(tool, out, tmp_path):
    if not shutil.which("perf"):
        pytest.skip("needs perf")
    data = tmp_path / "perf.data"
    with load("load-shares", 60, nice=-10) as target:
        with Agent("--pid", target.pid, "--frequency", 999, "--quiet", "--output", out, nice=-15) as agent, Process(
            ["perf", "record", "-q", "-F", 999, "-e", "cpu-clock", "-g", "-p", target.pid, "-o", data], nice=-15
        ) as perf:
            # perf tells nothing when it begins: both run until the load has had its time, and then a little
            support.wait_until(lambda: support.cpu_seconds(target.pid) > 14, 60, "CPU time of the load")
            perf.stop(signal.SIGINT)
            agent.stop(signal.SIGINT)
        assert agent.rc == 0, agent.err
    samples, total = of_load(Document(out))
    theirs, their_total = perf_shares(tool, data)
    assert total > 9000 and their_total > 9000
    for name, share in SHARES.items():
        ours = samples[name] / total
        assert abs(ours - share) < max(POINTS, support.share_error(share, total)), (name, ours)
        both = 2**0.5 * support.share_error(share, min(total, their_total))
        assert abs(ours - theirs[name]) < max(POINTS, both), (name, ours, theirs)
    assert samples["work"] / total > 0.98
    assert abs(samples["work"] / total - theirs["work"]) < POINTS


@pytest.mark.parametrize("frequency", (99, 999))
def test_frequency_is_held_and_every_tick_accounted(out, frequency):
    """One thread pinned to a CPU: what was expected is its CPU time times the frequency."""
    cpu, other = max(os.sched_getaffinity(0)), min(os.sched_getaffinity(0))
    stranger = ("taskset", "-c", other, "nice", "-n", 19, "sh", "-c", "while :; do :; done")
    with Process(stranger), load("load-shares", 60, 1, wrap=("taskset", "-c", cpu), nice=-15) as target:
        support.wait_until(lambda: len(os.listdir(f"/proc/{target.pid}/task")) == 2, what="the load's thread")
        thread = next(int(t) for t in os.listdir(f"/proc/{target.pid}/task") if int(t) != target.pid)
        stat = f"/proc/{target.pid}/task/{thread}/schedstat"
        with Agent("--comm", "load-shares", "--frequency", frequency, "--quiet", "--output", out) as agent:
            before = int(support.read(stat).split()[0])
            support.wait_until(lambda: int(support.read(stat).split()[0]) - before > 5e9, 40, "CPU time of the load")
            spent = int(support.read(stat).split()[0]) - before
            agent.stop(signal.SIGINT)
        assert agent.rc == 0, agent.err
    document = Document(out)
    ideal = spent / 1e9 * frequency
    assert document.data["agent"]["frequency_hz"] == frequency
    assert document.cpu["period_ns"] == 10**9 // frequency
    # how many ticks a thread meets that shares its CPU is chance: two deviations more than the share of time
    slack = 0.03 + 2 / ideal**0.5 * (0.2 if frequency == 99 else 0.5)
    assert abs(document.expected / ideal - 1) < slack, (document.expected, ideal, document.losses)
    lost = document.expected - document.delivered
    assert abs((document.delivered + lost) / ideal - 1) < 0.05
    assert document.data["out_of_scope"] > 0
    assert document.cpu["samples"] * document.cpu["period_ns"] == document.root["value"]


def test_system_wide_account(out):
    """Every tick of every CPU is delivered, lost by a reason, idle or out of scope."""
    with load("load-shares", 30):
        document = support.profile(out, "--duration", "3s", "--frequency", 499)
    agent = document.data["agent"]
    ticks = document.expected + document.data["idle"] + document.data["out_of_scope"]
    possible = document.cpu["duration_ns"] / 1e9 * 499 * agent["cpus"]
    assert agent["cpus"] == len(os.sched_getaffinity(0)) or agent["cpus"] == os.cpu_count()
    assert ticks < possible * 1.02 + 2
    if not document.data["idle"]:
        assert ticks > possible * 0.9
    assert document.data["out_of_scope"] == 0
    assert 0 < agent["cpu_ns"] < document.cpu["duration_ns"] / 5
    assert agent["bpf_run_count"] >= document.delivered and agent["bpf_run_ns"] > 0
    assert agent["rss_peak_bytes"] > 1 << 20 and agent["bpf_memory_bytes"] > 0


def test_kernel_time_is_below_its_caller(out):
    with load("load-kernel", 60, nice=-10) as target:
        document = support.profile(out, "--pid", target.pid, "--duration", "3s", "--frequency", 499)
    tree = document.comm("load-kernel")
    assert tree["samples"] > 300
    callers = support.frames(tree, "read_zeros")
    assert sum(one["samples"] for one in callers) > 0.95 * tree["samples"]
    kernel = [
        (chain, count)
        for chain, count in support.chains(tree)
        if any(node["kind"] == "kernel" for node in chain)
    ]
    assert sum(count for _, count in kernel) > 0.8 * tree["samples"]
    through_read = 0
    for chain, count in kernel:
        kinds = [node["kind"] for node in chain if node["kind"] != "mark"]
        first = kinds.index("kernel")
        assert set(kinds[first:]) == {"kernel"}, "user frames above kernel frames only"
        names = [node["name"] for node in chain]
        if "read_zeros" in names:
            below = " ".join(names[names.index("read_zeros") + 1 :])
            through_read += count * ("vfs_read" in below)
            assert all(node["module"].startswith("[") for node in chain if node["kind"] == "kernel")
    assert through_read > 0.8 * tree["samples"]
    assert document.reasons("[kernel]")["kptr"] == 0


