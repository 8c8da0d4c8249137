# SPDX-License-Identifier: Apache-2.0 OR MIT
"""System calls are counted exactly, as strace counts them, with their errors and how long they took."""
import bisect
import collections
import json
import platform
import re
import signal
import subprocess
import time

import pytest

import support
from support import BUILD, Agent, Capture, Held, near, record

LOAD = BUILD / "tests" / "load-syscalls"
# strace counts these when they begin, others when they return; they are the ends of both processes
NEVER_RETURN = ("exit", "exit_group")


def strace(tool, path, kind):
    """({name: calls}, {name: failed}, {name: {errno: failed}}) of load-syscalls, by strace."""
    calls, failed, errors = {}, {}, collections.defaultdict(collections.Counter)
    tool("strace", "-c", "-f", "-o", path, LOAD, kind, stdin=subprocess.DEVNULL)
    rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:(\d+) +)?(\w+)$", path.read_text(), re.M)
    for count, fails, name in rows:
        if name != "total":
            calls[name], failed[name] = int(count), int(fails or 0)
    tool("strace", "-f", "-e", "status=failed", "-o", path, LOAD, kind, stdin=subprocess.DEVNULL)
    for name, error in re.findall(r"^\d+ +(\w+)\(.* = -1 (E\w+) ", path.read_text(), re.M):
        errors[name][error] += 1
    return calls, failed, errors


def less(one, other):
    """What remains of counts when others are taken off; without zeros."""
    names = set(one) | set(other)
    return {name: one.get(name, 0) - other.get(name, 0) for name in names if one.get(name, 0) != other.get(name, 0)}


def test_counts_equal_those_of_strace(tool, out, tmp_path):
    """What `fixed` does beyond `nothing`, by both. Its child that runs a program has a start of its own in it."""
    theirs = [strace(tool, tmp_path / kind, kind) for kind in ("fixed", "nothing")]
    captures = [record("syscall", out, "load-syscalls", kind, args=("--children",)) for kind in ("fixed", "nothing")]
    rows = [capture.calls(lambda row: row["number"] != 4000) for capture, _ in captures]
    own = captures[0][1]
    assert captures[0][0]["syscall"]["account"]["folded"] == 0

    def ours(field):
        return less(*({name: row[field] for name, row in one.items() if name not in NEVER_RETURN} for one in rows))

    assert len(less(theirs[0][0], theirs[1][0])) > 20
    assert ours("count") == less(theirs[0][0], theirs[1][0])
    assert ours("failed") == less(theirs[0][1], theirs[1][1])
    for name, errors in theirs[0][2].items():
        if not name.startswith("syscall_"):
            assert less(rows[0][name]["errors"], rows[1].get(name, {"errors": {}})["errors"]) == less(
                errors, theirs[1][2][name]
            ), name
    # both may be wrong together: the program knows what it did
    for name, count in own["counts"].items():
        assert ours("count")[name] == count, name
    for name, errors in own["errors"].items():
        for error, count in errors.items():
            assert rows[0][name]["errors"][error] >= count, (name, error)
    unknown = [row for row in captures[0][0]["syscall"]["syscalls"] if row["number"] == 4000]
    assert [(row["count"], row["errors"]) for row in unknown] == [(3, {"ENOSYS": 3})]


@pytest.mark.sanitizer
def test_counts_are_those_of_the_program(out):
    capture, own = record("syscall", out, "load-syscalls", "fixed", args=("--children",))
    calls = capture.calls()
    for name in ("getppid", "sched_yield", "getpgid", "getsid", "kill", "lseek", "pipe2"):
        assert calls[name]["count"] == own["counts"][name], name
    assert calls["read"]["errors"]["EAGAIN"] == 19 and calls["read"]["errors"]["EBADF"] == 23
    assert calls["openat"]["errors"]["ENOTDIR"] == 11 and calls["openat"]["errors"]["ENOENT"] >= 37
    rows = capture["syscall"]["syscalls"]
    # a process of its own has rows of its own
    (yields,) = [row["pid"] for row in rows if row["name"] == "sched_yield"]
    (groups,) = [row["pid"] for row in rows if row["name"] == "getpgid"]
    (sessions,) = [row["pid"] for row in rows if row["name"] == "getsid"]
    assert len({yields, groups, sessions}) == 3
    assert {row["abi"] for row in rows} == {"native"}
    assert capture["syscall"]["account"]["delivered"] == sum(row["count"] for row in rows)


def test_children_only_when_asked_for(out):
    capture, _ = record("syscall", out, "load-syscalls", "fixed")
    calls = capture.calls()
    assert calls["getppid"]["count"] == 10000
    assert "getpgid" not in calls and "getsid" not in calls


@pytest.mark.sanitizer
def test_latency_falls_into_its_bucket(out):
    """The kernel's part of a sleep is no shorter than what was asked for and no longer than the program measures."""
    rounds = 8
    capture, own = record("syscall", out, "load-syscalls", "ladder", rounds)
    row = capture.calls()["nanosleep"]
    asked = sorted(1000 * us for us in own["asked_us"] * rounds)
    took = sorted(own["took_ns"])
    assert row["count"] == len(asked) == len(took)
    assert sum(asked) < row["total_ns"] <= sum(took)
    assert near(row["total_ns"], sum(took))
    assert 100e6 <= row["max_ns"] <= took[-1]
    below = 0
    for limit, count in sorted(row["histogram"].items()):
        below += count
        # as many are at or below a bound as by the one measure at most, and by the other at least
        assert bisect.bisect_right(took, limit) <= below <= bisect.bisect_right(asked, limit), (limit, below)
    # four buckets an octave
    limits = sorted(row["histogram"])
    assert all((limit + 1) * 4 % 2 ** ((limit + 1).bit_length() - 1) == 0 for limit in limits)
    (process,) = [one for one in capture["syscall"]["syscalls"] if one["name"] == "nanosleep"]
    for key, share in (("p50_ns", 0.50), ("p95_ns", 0.95), ("p99_ns", 0.99)):
        # between the values beside that place, and an eighth for the bucket
        at = share * len(took)
        low, high = asked[max(int(at) - 1, 0)], took[min(int(at) + 1, len(took) - 1)]
        assert low / 1.125 <= process[key] <= high * 1.125, (key, process[key], low, high)


def test_interrupted_and_restarted_calls(out):
    capture, own = record("syscall", out, "load-syscalls", "signals")
    calls = capture.calls()
    assert (own["read_eintr"], own["read_restarted"], own["nanosleep_eintr"]) == (10, 5, 7)
    # the kernel decides after the call whether it begins anew: it returns a code of its own for that
    interrupted = {"EINTR", "ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ERESTART_RESTARTBLOCK"}
    read, sleep = calls["read"], calls["nanosleep"]
    assert sum(read["errors"][name] for name in interrupted) == 10 + 5, read
    assert sum(sleep["errors"][name] for name in interrupted) == 7 + 1, sleep
    assert set(read["errors"]) <= interrupted and set(sleep["errors"]) <= interrupted
    # the restarted ones have a second call that succeeds
    assert read["count"] - read["failed"] >= own["read_restarted"]
    assert calls["restart_syscall"]["count"] == own["restart_syscall"] and not calls["restart_syscall"]["failed"]
    both = sleep["total_ns"] + calls["restart_syscall"]["total_ns"]
    assert own["stopped_ns"] * 0.5 < both


def test_many_short_processes(out):
    """Nothing is lost with the processes, and memory stays within bounds."""
    count = 10000
    capture, own = record("syscall", out, "load-syscalls", "many", count, args=("--children",), timeout=200)
    calls, account = capture.calls(), capture["syscall"]["account"]
    assert calls["getppid"]["count"] == own["getppid"] == 3 * count
    assert calls["close"]["errors"]["EBADF"] == count
    assert account["expected"] == account["delivered"] and account["folded"] == 0
    assert not any(account["losses"].values()), account
    assert len({row["pid"] for row in capture["syscall"]["syscalls"] if row["name"] == "getppid"}) > 0.9 * count
    agent = capture.data["agent"]
    assert agent["rss_peak_bytes"] < 256 << 20
    assert agent["bpf_memory_bytes"] < 64 << 20


@pytest.mark.sanitizer
def test_call_that_does_not_return(out):
    with Held("load-syscalls", "blocked") as target:
        with Agent("--pid", target.pid, "--quiet", "--output", out, mode="syscall") as agent:
            target.go()
            own = target.line()
            time.sleep(1)  # the length of the call, not a wait for something
            ended = time.monotonic_ns()
            agent.stop(signal.SIGINT)
    assert agent.rc == 0, agent.err
    (row,) = [row for row in Capture(out)["syscall"]["syscalls"] if row["name"] == "read" and row["in_flight"]]
    assert row["in_flight"] == 1
    assert near(row["in_flight_max_ns"], ended - own["began_ns"], 0.05)
    assert row["max_ns"] < 0.5e9  # not among those that returned


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is of x86")
def test_compat_calls_are_told_apart(out, tool):
    count = 1000
    capture, own = record("syscall", out, "load-syscalls", "compat", count)
    rows = {(row["abi"], row["number"]): row for row in capture["syscall"]["syscalls"]}
    assert rows["compat", 20]["count"] == own["count"] == count
    assert rows["compat", 20]["name"] == "getpid"
    assert ("native", 20) not in rows  # writev
    assert rows["native", 110]["count"] == count and rows["native", 110]["name"] == "getppid"


def test_stacks_of_slow_calls(out, tmp_path):
    rounds = 5
    svg = tmp_path / "syscall.svg"
    capture, own = record(
        "syscall", out, "load-syscalls", "ladder", rounds, args=("--stacks",), outputs=(svg,)
    )
    root = capture["syscall"]["root"]
    slow = [ns for ns in own["took_ns"] if ns >= 1e6]
    assert support.named(root, "sleep_in_ladder") == len(slow) >= 5 * rounds
    assert near(support.value_of(root, "sleep_in_ladder"), sum(slow))
    for frame in support.frames(root, "sleep_in_ladder"):
        (leaf,) = frame["children"]
        assert leaf["name"] == "nanosleep" and leaf["kind"] == "kernel" and not leaf["children"]
    assert support.svg_meta(svg) and "sleep_in_ladder" in svg.read_text()
    # the table has them all
    assert capture.calls()["nanosleep"]["count"] == len(own["took_ns"])
    capture, own = record(
        "syscall", out, "load-syscalls", "ladder", rounds, args=("--stacks", "--min-latency", "20ms")
    )
    slow = [ns for ns in own["took_ns"] if ns >= 20e6]
    assert support.named(capture["syscall"]["root"], "sleep_in_ladder") == len(slow) >= 2 * rounds


def test_without_stacks_there_are_none(out):
    capture, _ = record("syscall", out, "load-syscalls", "ladder", 1)
    assert capture["syscall"]["root"]["children"] == []


def test_system_wide(out):
    with Held("load-syscalls", "fixed") as target:
        with Agent("--quiet", "--output", out, mode="syscall") as agent:
            target.go()
            target.wait()
            agent.stop(signal.SIGINT)
    assert agent.rc == 0, agent.err
    capture = Capture(out)
    ours = capture.calls(lambda row: row["comm"] == "load-syscalls")
    own = json.loads(target.out)
    for name in ("getppid", "sched_yield", "getsid"):
        assert ours[name]["count"] == own["counts"][name]
    assert len({row["pid"] for row in capture["syscall"]["syscalls"]}) > 1


@pytest.mark.sanitizer
def test_text_table(out, tmp_path):
    text = tmp_path / "calls.txt"
    record("syscall", out, "load-syscalls", "fixed", outputs=(text,), args=("--children",))
    words = text.read_text()
    for word in ("getppid", "10000|10,000|10 000", "ENOENT", "EBADF", "load-syscalls", "p99|99"):
        assert re.search(word, words), (word, words)
