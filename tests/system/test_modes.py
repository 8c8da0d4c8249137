# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Several kinds at once, in and out of namespaces; what is left behind, and what is refused."""
import contextlib
import json
import os
import re
import shutil
import signal

import pytest

import support
from support import AGENT, BUILD, FAILED, USAGE, Agent, Capture, Held, Process, load

ALL = ("cpu", "offcpu", "lock", "syscall")
LOADS = BUILD / "tests"
NEW_PID_NS = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def mixed(stack):
    """A load for every kind; each runs until it is stopped."""
    return [
        stack.enter_context(load("load-shares", 600)),
        stack.enter_context(load("load-locks", "mutex", 100000)),
        stack.enter_context(load("load-blocks", "pipe", 100000)),
        stack.enter_context(load("load-syscalls", "getppid", 600)),
    ]


@pytest.mark.slow
def test_all_kinds_for_half_a_minute(out):
    with contextlib.ExitStack() as stack:
        mixed(stack)
        stack.enter_context(Process(["sh", "-c", f"while :; do {LOADS}/load-syscalls many 200 </dev/null; done"]))
        agent = support.run_agent("--quiet", "--duration", "30s", "--output", out, mode="all")
    assert agent.rc == 0, agent.err
    capture = Capture(out)
    assert set(capture.kinds) == set(ALL) and capture.data["left_out"] == []
    for kind in ALL:
        account = capture[kind]["account"]
        assert account["delivered"] > 100, kind
        # ticks that a busy host keeps from its guest are counted, and no fault
        lost = account["expected"] - account["delivered"] - account["losses"]["missed"]
        assert lost < 0.001 * account["expected"], (kind, account)
        assert 30e9 <= capture[kind]["duration_ns"] < 33e9
    assert support.named(capture["cpu"]["root"], "work") > 0
    assert support.named(capture["offcpu"]["root"], "block_in_read") > 1000
    (row,) = [row for row in capture["lock"]["locks"] if row.get("symbol") == "shared_mutex"]
    assert row["waits"] > 500
    assert capture.calls(lambda one: one["comm"] == "load-syscalls")["getppid"]["count"] > 100000
    # no thread is off the CPU, or waits for a lock, for longer than there was time
    for kind in ("offcpu", "lock"):
        for name in ("load-blocks", "waiter"):
            assert capture.thread(kind, name)["value"] <= 1.001 * capture[kind]["duration_ns"]
    agent = capture.data["agent"]
    assert agent["rss_peak_bytes"] < 256 << 20


@pytest.mark.sanitizer
def test_files_are_named_by_kind(tmp_path):
    with contextlib.ExitStack() as stack:
        mixed(stack)
        outputs = [word for end in ("svg", "json") for word in ("--output", tmp_path / f"flamegraph.{end}")]
        agent = support.run_agent("--quiet", "--duration", "2s", *outputs, mode=",".join(ALL))
    assert agent.rc == 0, agent.err
    assert {path.name for path in tmp_path.iterdir()} == {
        "flamegraph.json", "flamegraph.cpu.svg", "flamegraph.offcpu.svg", "flamegraph.lock.svg",
        "flamegraph.syscall.txt",
    }
    capture = Capture(tmp_path / "flamegraph.json")
    assert [one["kind"] for one in capture.data["profiles"]] == list(ALL)
    for kind, word in (("cpu", "work"), ("offcpu", "block_in_read"), ("lock", "wait_for_mutex")):
        svg = tmp_path / f"flamegraph.{kind}.svg"
        assert word in svg.read_text() and support.svg_meta(svg)
    assert "getppid" in (tmp_path / "flamegraph.syscall.txt").read_text()


def test_one_kind_keeps_its_name(tmp_path):
    with load("load-blocks", "pipe", 100000) as target:
        path = tmp_path / "flamegraph.svg"
        agent = support.run_agent(
            "--quiet", "--duration", "500ms", "--pid", target.pid, "--output", path, mode="offcpu"
        )
    assert agent.rc == 0, agent.err
    assert [one.name for one in tmp_path.iterdir()] == ["flamegraph.svg"]


@pytest.mark.parametrize("end, kinds", (("collapsed", 3), ("txt", 4)))
def test_other_formats_by_kind(tmp_path, end, kinds):
    with contextlib.ExitStack() as stack:
        mixed(stack)
        agent = support.run_agent("--quiet", "--duration", "1s", "--output", tmp_path / f"p.{end}", mode="all")
    assert agent.rc == 0, agent.err
    assert {f"p.{kind}.{end}" for kind in ALL[:kinds]} <= {path.name for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        assert path.stat().st_size > 0


def test_kinds_that_this_machine_lacks_are_left_out(out, tool):
    counters = tool("perf", "stat", "-x,", "-e", "cycles", "true", check=False).stderr
    if "not supported" not in counters:
        pytest.skip("this machine has hardware counters")
    with load("load-syscalls", "getppid", 600) as target:
        agent = support.run_agent(
            "--event", "cycles", "--pid", target.pid, "--duration", "500ms", "--output", out, mode="cpu,syscall"
        )
    assert agent.rc == 0, agent.err
    capture = Capture(out)
    assert set(capture.kinds) == {"syscall"}
    assert capture.calls()["getppid"]["count"] > 1000
    ((kind, reason),) = [(one["kind"], one["reason"]) for one in capture.data["left_out"]]
    assert kind == "cpu" and re.search("cycles|counter", reason)
    assert "cpu" in agent.err and re.search("cycles|counter", agent.err)


def test_nothing_left_is_a_failure(out, tool):
    counters = tool("perf", "stat", "-x,", "-e", "cycles", "true", check=False).stderr
    if "not supported" not in counters:
        pytest.skip("this machine has hardware counters")
    agent = support.run_agent("--event", "cycles", "--duration", "1m", "--output", out, mode="cpu")
    assert agent.rc == FAILED and not out.exists()


# Namespaces


def in_namespace(script):
    return Process([*NEW_PID_NS, "sh", "-c", script])


def test_agent_in_a_pid_namespace(out):
    """--pid is a number of the agent's own namespace, and means no other process."""
    script = (
        f"{LOADS}/load-locks mutex 100000 </dev/null & p=$!; {LOADS}/load-locks heap 100000 </dev/null & "
        f"{AGENT} --mode all --pid $p --duration 1500ms --quiet --output {out}; rc=$?; echo $p; exit $rc"
    )
    with in_namespace(script) as shell:
        assert shell.wait(60).rc == 0, shell.err
    pid = int(shell.out)
    assert 1 < pid < 20
    capture = Capture(out)
    assert {row["pid"] for row in capture["syscall"]["syscalls"]} == {pid}
    rows = [row for row in capture["lock"]["locks"] if not row["kernel"]]
    assert {row["pid"] for row in rows} == {pid}
    (row,) = [row for row in rows if row["type"] == "mutex"]
    assert row["symbol"] == "shared_mutex" and row["waits"] > 10
    assert "wait_for_mutex" in {frame["name"] for frame in row["waiters"][0]["stack"]}
    assert support.named(capture["offcpu"]["root"], "wait_for_mutex") > 10


def test_target_in_a_pid_namespace(out):
    with load("load-locks", "mutex", 100000, wrap=NEW_PID_NS) as target:
        pid = support.descendant(target.pid, "load-locks")
        agent = support.run_agent("--pid", pid, "--duration", "1500ms", "--quiet", "--output", out, mode="all")
    assert agent.rc == 0, agent.err
    capture = Capture(out)
    assert {row["pid"] for row in capture["syscall"]["syscalls"]} == {pid}
    (row,) = [row for row in capture["lock"]["locks"] if row.get("type") == "mutex" and not row["kernel"]]
    assert (row["pid"], row["symbol"]) == (pid, "shared_mutex") and row["waits"] > 10
    assert "release_mutex_here" in {frame["name"] for frame in row["wakers"][0]["stack"]}
    assert support.named(capture["offcpu"]["root"], "wait_for_mutex") > 10


def test_targets_outside_the_namespace_are_not_dropped(out):
    with load("load-locks", "mutex", 100000), load("load-syscalls", "getppid", 600):
        script = f"{AGENT} --mode all --comm load-locks --comm load-syscalls --duration 1500ms --quiet --output {out}"
        with in_namespace(script) as shell:
            assert shell.wait(60).rc == 0, shell.err
    capture = Capture(out)
    calls = capture.calls(lambda row: row["comm"] == "load-syscalls")
    assert calls["getppid"]["count"] > 1000
    # which kind of lock it is the names of the stack would tell
    assert sum(row["waits"] for row in capture["lock"]["locks"] if not row["kernel"]) > 10
    assert any(row["reason"] == "namespace" for row in capture.data["unresolved"])
    assert capture["offcpu"]["root"]["samples"] > 10


def test_filters_hold_for_every_kind(out):
    with contextlib.ExitStack() as stack:
        mixed(stack)
        agent = support.run_agent(
            "--comm", "load-locks", "--duration", "1s", "--quiet", "--output", out, mode="all"
        )
    assert agent.rc == 0, agent.err
    capture = Capture(out)
    assert {row["comm"] for row in capture["syscall"]["syscalls"]} == {"load-locks"}
    assert {row["comm"] for row in capture["lock"]["locks"] if not row["kernel"]} == {"load-locks"}
    for kind in ("offcpu", "lock"):
        assert {node["name"] for node in capture[kind]["root"]["children"]} <= {"load-locks", "waiter"}
    assert capture.calls()["write"]["count"] > 10  # its threads tell each other through pipes


def test_cgroup(out, cgroup):
    group = cgroup(f"aperture-test-{os.getpid()}")
    with load("load-locks", "mutex", 100000) as target, load("load-blocks", "pipe", 100000):
        with open(f"{group}/cgroup.procs", "w") as procs:
            procs.write(str(target.pid))
        agent = support.run_agent("--cgroup", group, "--duration", "1s", "--quiet", "--output", out, mode="all")
    assert agent.rc == 0, agent.err
    capture = Capture(out)
    assert {row["pid"] for row in capture["syscall"]["syscalls"]} == {target.pid}
    assert {row["pid"] for row in capture["lock"]["locks"] if not row["kernel"]} == {target.pid}
    assert capture["offcpu"]["root"]["samples"] > 10
    assert not support.frames(capture["offcpu"]["root"], "block_in_read")


# Ends


def test_killed_agent_leaves_nothing(tmp_path, tool):
    def ids(kind):
        return {one["id"] for one in json.loads(tool("bpftool", "-j", kind, "list").stdout)}

    with load("load-locks", "mutex", 100000):
        with Agent("--quiet", "--output", tmp_path / "killed.svg", mode="all") as agent:
            held = {kind: support.bpf_ids(agent.pid, kind) for kind in ("prog", "map", "link")}
            assert len(held["prog"] & ids("prog")) >= len(ALL) and held["map"] & ids("map")
            workers = support.children(agent.pid)
            agent.popen.kill()
            agent.wait()
    assert agent.rc == -signal.SIGKILL
    for kind, numbers in held.items():
        support.wait_until(lambda k=kind, n=numbers: not n & ids(k), what=f"no {kind} of the agent")
    for worker in workers:
        support.wait_until(lambda w=worker: support.read(f"/proc/{w}/stat").split()[2:3] in ([], ["Z"], ["X"]))
    assert list(tmp_path.iterdir()) == []


HASHES = ("hash", "lru_hash", "percpu_hash", "lru_percpu_hash")
# Which stacks the agent has: by their content, of no process, and the oldest go when it is full.
CACHES = ("seen",)


def entries(tool, pid):
    """{name of map: entries} of the hash tables that the agent holds."""
    found = {}
    for number in support.bpf_ids(pid, "map"):
        shown = json.loads(tool("bpftool", "-j", "map", "show", "id", number).stdout)
        if shown["type"] in HASHES and shown["name"] not in CACHES:
            dump = json.loads(tool("bpftool", "-j", "map", "dump", "id", number).stdout)
            found[f"{shown['name']} {number}"] = len(dump)
    return found


@pytest.fixture
def outlived(out, tmp_path):
    """(the agent, a program): three processes of the program have come and gone while it recorded."""
    program = tmp_path / "load-gone"
    shutil.copy(LOADS / "load-locks", program)
    options = ("--comm", "load-gone", "--comm", "waiter", "--quiet", "--output", out)
    with Agent(*options, mode="offcpu,lock,syscall") as agent:
        for _ in range(3):
            with load(program, "mutex", 10) as target:
                assert target.wait().rc == 0
        yield agent, program


def test_maps_are_empty_when_targets_have_gone(outlived, out, tool):
    agent, _ = outlived
    assert len(entries(tool, agent.pid)) > 3
    support.wait_until(lambda: not any(entries(tool, agent.pid).values()), what="empty maps")
    assert agent.stop(signal.SIGINT).rc == 0, agent.err
    capture = Capture(out)
    assert sum(row["waits"] for row in capture["lock"]["locks"] if row.get("symbol") == "shared_mutex") == 30
    assert support.named(capture["lock"]["root"], "wait_for_mutex") >= 30  # and what met a lock of the kernel there
    assert {row["comm"] for row in capture["syscall"]["syscalls"]} == {"load-gone"}


def test_ends_with_its_target(out):
    with Held("load-blocks", "sleep", 10) as target:
        with Agent("--pid", target.pid, "--duration", "10m", "--quiet", "--output", out, mode="all") as agent:
            target.go()
            target.wait()
            assert agent.wait(45).rc == 0, agent.err
    assert set(Capture(out).kinds) == set(ALL)


# Usage


@pytest.mark.sanitizer
@pytest.mark.parametrize(
    "args, words",
    (
        (("--mode", "cpu,gpu2"), ("mode", "gpu2", "offcpu")),
        (("--mode", "locks"), ("mode", "locks", "lock")),
        (("--mode", ""), ("mode",)),
        (("--mode", "cpu,"), ("mode",)),
        (("--mode", ",lock"), ("mode",)),
        (("--mode", "all,none"), ("mode", "none")),
        (("--mode", "offcpu", "--min-block", "soon"), ("min-block", "soon")),
        (("--mode", "offcpu", "--min-block", "-1ms"), ("min-block",)),
        (("--mode", "offcpu", "--min-block", ""), ("min-block",)),
        (("--mode", "offcpu", "--sample-every", "0"), ("sample-every",)),
        (("--mode", "offcpu", "--sample-every", "-3"), ("sample-every",)),
        (("--mode", "offcpu", "--sample-every", "some"), ("sample-every", "some")),
        (("--mode", "offcpu", "--sample-every", "99999999999999999999"), ("sample-every",)),
        (("--mode", "syscall", "--stacks", "--min-latency", "later"), ("min-latency", "later")),
        (("--mode", "syscall", "--stacks", "--min-latency", "-1s"), ("min-latency",)),
        (("--mode", "offcpu", "--wakers"), ("wakers", "--waker")),
    ),
)
def test_usage(args, words, tmp_path):
    with Process([AGENT, *args, "--duration", "1m", "--output", tmp_path / "p.json"]) as agent:
        agent.wait(20)
    assert agent.rc == USAGE, (agent.rc, agent.err)
    assert not support.CRASH.search(agent.err), agent.err
    assert re.search("^aperture-agent: error: ", agent.err, re.M)
    for word in (*words, "--help"):
        assert word in agent.err, agent.err
    assert agent.out == "" and list(tmp_path.iterdir()) == []
