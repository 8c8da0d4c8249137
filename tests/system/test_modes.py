# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Several kinds at once, in and out of namespaces; what is left behind, and what is refused."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import time

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


# Files of programs that have ended

DEEP_NAMES = ("main", "recurse", "outer::Worker::run(int)", "core::fmt::write", "demo::spin", "inlined_spin")
LET_GO_S = 30  # grace, idle time and naming take about ten seconds


def held(pid, path):
    """What the agent and its symbolizer have of the file: descriptors and mappings."""
    found = []
    for one in (pid, *support.children(pid)):
        with contextlib.suppress(OSError):  # a symbolizer may end meanwhile
            for link in pathlib.Path(f"/proc/{one}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(path) in os.readlink(link):
                        found.append((one, link.name))
        found += [(one, line) for line in support.read(f"/proc/{one}/maps").splitlines() if str(path) in line]
    return found


@pytest.fixture
def programs(tmp_path):
    """Copies of a load that computes and of one that waits for locks."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, copy in (("load-deep", "deep-gone"), ("load-locks", "load-gone")):
        shutil.copy(LOADS / name, folder / copy)
    return folder


def run_both(folder, agent):
    """Runs them from start to end; the agent has taken notice of both. Process id of the second."""
    with load(folder / "deep-gone", 2, 0) as deep:
        support.wait_until(lambda: held(agent.pid, folder / "deep-gone"), what="the program's file")
        with load(folder / "load-gone", "mutex", 10) as locks:
            assert deep.wait().rc == 0 and locks.wait().rc == 0
    return locks.pid


def wait_for_release(agent, folder):
    support.wait_until(lambda: not held(agent.pid, folder), LET_GO_S, "files that are let go")
    assert agent.popen.poll() is None


def names_are_right(capture, folder, *pids):
    """Both programs are named in every kind, as if they still ran. `pids`: of the second program's runs."""
    runs = len(pids)
    assert not [row for row in capture.data["unresolved"] if row["module"].startswith(str(folder))]
    deep = capture.thread("cpu", "deep-gone")
    for name in DEEP_NAMES:
        assert support.named(deep, name) > 0.95 * deep["samples"] > 5 * runs, name
    for frame in support.frames(deep, "recurse"):
        assert frame["module"] == str(folder / "deep-gone") and frame["file"].endswith("load_deep.c")
    # a node that stands for several lines has none
    assert any(frame.get("line") for name in DEEP_NAMES for frame in support.frames(deep, name))
    rows = [row for row in capture["lock"]["locks"] if row["pid"] in pids and row.get("symbol") == "shared_mutex"]
    assert {row["pid"]: row["waits"] for row in rows} == dict.fromkeys(pids, 10)
    for row in rows:
        waiting = {frame["name"]: frame for frame in row["waiters"][0]["stack"]}["wait_for_mutex"]
        assert waiting["file"].endswith("load_locks.c") and waiting["line"] > 0
        assert "release_mutex_here" in {frame["name"] for frame in row["wakers"][0]["stack"]}
    assert support.named(capture.thread("offcpu", "waiter"), "wait_for_mutex") >= 10 * runs


def recorder(out, *args, mode="cpu,offcpu,lock"):
    return Agent("--quiet", "--output", out, *args, mode=mode)


def test_files_are_let_go_when_targets_have_gone(programs, out):
    with recorder(out, mode="all") as agent:
        pid = run_both(programs, agent)
        for copy in list(programs.iterdir()):
            copy.unlink()
        assert held(agent.pid, programs)  # they were pinned
        wait_for_release(agent, programs)
        assert agent.stop(signal.SIGINT).rc == 0, agent.err
    capture = Capture(out)
    assert capture.data["losses"]["sideband"] == 0
    names_are_right(capture, programs, pid)


def test_files_are_let_go_below_one_target(programs, out):
    script = f"read go; {programs}/deep-gone 2 0; {programs}/load-gone mutex 10 </dev/null & echo $!; wait $!; read end"
    with Process(["sh", "-c", script], stdin=-1) as shell:
        with recorder(out, "--pid", shell.pid, "--children") as agent:
            shell.popen.stdin.write("go\n")
            shell.popen.stdin.flush()
            pid = int(shell.popen.stdout.readline())
            support.wait_until(lambda: held(agent.pid, programs / "load-gone"), what="the program's file")
            wait_for_release(agent, programs)
            assert agent.stop(signal.SIGINT).rc == 0, agent.err
    names_are_right(Capture(out), programs, pid)


@pytest.mark.slow
def test_files_that_come_back(programs, out):
    with recorder(out) as agent:
        first = run_both(programs, agent)
        wait_for_release(agent, programs)
        second = run_both(programs, agent)  # pins them again
        wait_for_release(agent, programs)
        assert agent.stop(signal.SIGINT).rc == 0, agent.err
    names_are_right(Capture(out), programs, first, second)


@pytest.mark.slow
def test_another_program_in_the_same_inode(programs, out):
    path = programs / "deep-gone"
    inode = path.stat().st_ino
    with recorder(out) as agent:
        pid = run_both(programs, agent)
        wait_for_release(agent, programs)
        shutil.copyfile(LOADS / "load-shares", path)
        assert path.stat().st_ino == inode
        with load(path, 2) as target:
            assert target.wait().rc == 0
        assert agent.stop(signal.SIGINT).rc == 0, agent.err
    capture = Capture(out)
    names_are_right(capture, programs, pid)
    for thread in ("worker-0", "worker-1", "worker-2"):
        tree = capture.thread("cpu", thread)
        shares = sum(support.named(tree, f"share_{share}") for share in ("fifty", "thirty", "twenty"))
        assert shares > 0.9 * tree["samples"] > 0, thread


def switches(pid):
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", support.read(f"/proc/{pid}/status"), re.M)[1])


@contextlib.contextmanager
def hung_symbolizer(programs, out, *args):
    """Yields an agent whose symbolizer is asked about the files of ended programs, and is stopped; that; and the process
    id of the program with locks."""
    with load("load-shares", 600), recorder(out, *args) as agent:
        worker = support.descendant(agent.pid, "aperture-symbol")
        os.kill(worker, signal.SIGSTOP)
        pid = run_both(programs, agent)
        time.sleep(10)  # more than it would take
        assert held(agent.pid, programs)
        before = switches(agent.pid)
        time.sleep(2)
        assert switches(agent.pid) - before > 10  # the agent goes on taking samples in
        yield agent, worker, pid


def nothing_was_lost(capture):
    """But for what a busy host does to its guest's ticks."""
    for kind in capture.kinds:
        losses = capture[kind]["account"]["losses"]
        assert losses["ring_full"] == losses["map_full"] == 0, losses
    assert capture.thread("cpu", "worker-0")["samples"] > 20


@pytest.mark.slow
def test_a_slow_symbolizer_stalls_nothing(programs, out):
    with hung_symbolizer(programs, out) as (agent, worker, pid):
        os.kill(worker, signal.SIGCONT)
        wait_for_release(agent, programs)
        assert agent.stop(signal.SIGINT).rc == 0, agent.err
    capture = Capture(out)
    names_are_right(capture, programs, pid)
    nothing_was_lost(capture)


@pytest.mark.slow
def test_a_killed_symbolizer_costs_one_file(programs, out):
    with hung_symbolizer(programs, out) as (agent, worker, _):
        os.kill(worker, signal.SIGKILL)
        wait_for_release(agent, programs)
        assert agent.stop(signal.SIGINT).rc == 0, agent.err
    capture = Capture(out)
    nothing_was_lost(capture)
    lost = {row["module"] for row in capture.data["unresolved"] if row["reason"] == "bad_file"}
    # the file that it was asked about may be one of another program that ended
    assert len([module for module in lost if module.startswith(str(programs))]) <= 1, lost
    assert support.named(capture.thread("cpu", "worker-0"), "share_fifty") > 0


@pytest.mark.slow
def test_a_hung_symbolizer_delays_the_end_for_a_minute(programs, out):
    with hung_symbolizer(programs, out) as (agent, _, _):
        began = time.monotonic()
        assert agent.stop(signal.SIGINT, timeout=90).rc == 0, agent.err
        assert time.monotonic() - began < 70
    capture = Capture(out)
    nothing_was_lost(capture)
    assert {row["reason"] for row in capture.data["unresolved"]} >= {"budget"}
    assert support.named(capture.thread("cpu", "worker-0"), "share_fifty") > 0


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
