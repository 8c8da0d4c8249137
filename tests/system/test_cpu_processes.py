# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Whose time it is: short-lived processes, namespaces, filters, containers, code that has no file any more."""
import os
import shutil

import pytest

import support
from support import AGENT, BUILD, Agent, Document, Process, load

NEW_PID_NS = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
DEEP_NAMES = ("main", "recurse", "outer::Worker::run(int)", "core::fmt::write", "demo::spin", "inlined_spin")


def forks(out, count, ms, *args, pid=True, frequency=999):
    """Profiles load-forks from before its first child to its end: (document, CPU seconds of its children)."""
    # the shell waits for a line, so that the load begins after the agent
    command = f"read go; exec {BUILD}/tests/load-forks {count} {ms}"
    with Process(["sh", "-c", command], stdin=-1) as target:
        filters = ("--pid", target.pid, "--children") if pid else ()
        with Agent(*filters, "--frequency", frequency, "--quiet", "--output", out, *args) as agent:
            target.popen.stdin.write("go\n")
            target.popen.stdin.flush()
            target.wait(120)
            assert target.rc == 0
            if pid:
                agent.wait(30)  # ends with its target
            else:
                agent.stop()
    assert agent.rc == 0 and not support.CRASH.search(agent.err), agent.err
    ran, cpu_ns = target.out.split()
    assert int(ran) == count
    return Document(out), int(cpu_ns) / 1e9


@pytest.mark.sanitizer
@pytest.mark.parametrize("pid", (True, False), ids=("pid", "system"))
def test_short_lived_processes_are_seen(out, pid):
    document, cpu = forks(out, 300, 5, pid=pid)
    tree = document.comm("exe")  # the children run /proc/self/exe
    sampled = (tree["samples"] + document.losses["missed"] * pid) * document.cpu["period_ns"] / 1e9
    assert abs(sampled / cpu - 1) < 0.10 + 2 / tree["samples"] ** 0.5
    # without frame pointers in the dynamic linker and the kernel's exec there is more than short_lived() in a child
    inside = support.named(tree, "short_lived")
    assert inside > 0.75 * tree["samples"]
    for frame in support.frames(tree, "short_lived"):
        assert frame["module"] == str(BUILD / "tests" / "load-forks")
        assert frame["file"].endswith("load_forks.c")
    reasons = document.reasons()
    assert reasons["process_gone"] == 0 and reasons["file_gone"] == 0
    if pid:
        # a tick inside __set_task_comm(), between its memcpy() and its memset(), reads a name made of two
        torn = "exe" + "load-forks"[3:]
        assert set(document.comms()) <= {"exe", "load-forks", "sh", torn}


def test_children_shorter_than_the_period(out):
    document, cpu = forks(out, 1000, 3, frequency=99)
    tree = document.comm("exe")
    assert tree["samples"] > 0.5 * cpu * 99
    assert support.named(tree, "short_lived") > 0.7 * tree["samples"]


def test_thousands_of_short_processes(out):
    document, cpu = forks(out, 5000, 0, pid=False)
    assert document.expected > 0
    unresolved = sum(row["samples"] for (_, reason), row in document.unresolved.items() if reason == "process_gone")
    total = document.data["frames_total"]
    # what events explain has a name; lost events are counted
    assert unresolved < 0.05 * total or document.losses["sideband"] > 0
    assert document.comm("exe")["samples"] > 0.2 * cpu * 999


def test_target_in_a_pid_namespace(out):
    with load("load-deep", 60, 0, wrap=NEW_PID_NS) as target:
        pid = support.descendant(target.pid, "load-deep")
        document = support.profile(out, "--pid", pid, "--duration", "1500ms", "--frequency", 199)
    for name in DEEP_NAMES:
        assert support.named(document.comm("load-deep"), name) > 0.95 * document.delivered > 0, name


def inside(script, **options):
    return Process([*NEW_PID_NS, "sh", "-c", script], **options)


def test_agent_in_a_pid_namespace(out):
    """--pid is a number of the agent's own namespace, and means no other process."""
    script = (
        f"{BUILD}/tests/load-deep 60 0 & p=$!; {BUILD}/tests/load-shares 60 & "
        f"{AGENT} --pid $p --duration 1500ms --frequency 199 --quiet --output {out}; rc=$?; echo $p; exit $rc"
    )
    with inside(script) as shell:
        assert shell.wait(60).rc == 0, shell.err
    assert 1 < int(shell.out) < 20
    document = Document(out)
    assert document.delivered > 0 and set(document.comms()) == {"load-deep"}
    for name in DEEP_NAMES:
        assert support.named(document.root, name) > 0.95 * document.delivered, name


def test_agent_above_a_nested_pid_namespace(out):
    script = (
        f"{' '.join(NEW_PID_NS)} {BUILD}/tests/load-deep 60 0 & "
        "while ! grep -q load-deep /proc/[0-9]*/comm; do :; done; "
        f"{AGENT} --comm load-deep --duration 1500ms --frequency 199 --quiet --output {out}"
    )
    with inside(script) as shell:
        assert shell.wait(60).rc == 0, shell.err
    document = Document(out)
    for name in DEEP_NAMES:
        assert support.named(document.comm("load-deep"), name) > 0.95 * document.delivered > 0, name


def test_targets_outside_the_namespace_are_not_dropped(out):
    with load("load-deep", 60, 0):
        script = f"{AGENT} --comm load-deep --duration 1500ms --frequency 199 --quiet --output {out}"
        with inside(script) as shell:
            assert shell.wait(60).rc == 0, shell.err
    document = Document(out)
    assert document.delivered == document.comm("load-deep")["samples"] > 0
    assert document.reasons()["namespace"] >= document.delivered * 0.9
    assert all(row["help"] for row in document.data["unresolved"])


def moved_aside(path):
    path.unlink()


def replaced(path):
    other = path.with_name("other")
    shutil.copy(BUILD / "tests" / "load-kernel", other)
    os.rename(other, path)


@pytest.mark.parametrize("change", (moved_aside, replaced))
def test_executable_gone(out, tmp_path, change):
    program = tmp_path / "load-gone"
    shutil.copy(BUILD / "tests" / "load-deep", program)
    with load(program, 60, 0) as target:
        change(program)
        document = support.profile(out, "--pid", target.pid, "--duration", "1500ms", "--frequency", 199)
    for name in DEEP_NAMES:
        assert support.named(document.comm("load-gone"), name) > 0.95 * document.delivered > 0, name
    modules = {node.get("module") for node in support.frames(document.root, "recurse")}
    assert modules == {str(program)}


def test_pid_sees_only_its_target(out):
    with load("load-shares", 60) as target, load("load-deep", 60, 0) as other, load("load-kernel", 60):
        one = support.profile(out, "--pid", target.pid, "--duration", "1s", "--frequency", 199)
        two = support.profile(out, "--pid", target.pid, "-p", other.pid, "--duration", "1s", "--frequency", 199)
    # the threads of the target are all there, other processes are not
    assert set(one.comms()) == {"worker-0", "worker-1", "worker-2"}
    assert one.data["out_of_scope"] > 0
    assert set(two.comms()) == {"worker-0", "worker-1", "worker-2", "load-deep"}


def test_comm_names_threads_or_processes(out):
    with load("load-shares", 60), load("load-deep", 60, 0):
        thread = support.profile(out, "--comm", "worker-1", "--duration", "1s", "--frequency", 199)
        process = support.profile(out, "--comm", "load-shares", "--duration", "1s", "--frequency", 199)
        both = support.profile(
            out, "--comm", "worker-2", "--comm", "load-deep", "--duration", "1s", "--frequency", 199
        )
    assert set(thread.comms()) == {"worker-1"}
    assert set(process.comms()) == {"worker-0", "worker-1", "worker-2"}
    assert set(both.comms()) == {"worker-2", "load-deep"}


def test_filters_must_all_match(out):
    with load("load-shares", 60) as target, load("load-deep", 60, 0):
        document = support.profile(
            out, "--pid", target.pid, "--comm", "worker-0", "--duration", "1s", "--frequency", 199
        )
        nothing = support.profile(
            out, "--pid", target.pid, "--comm", "load-deep", "--duration", "300ms", "--frequency", 199
        )
    assert set(document.comms()) == {"worker-0"}
    assert nothing.delivered == 0 and "no samples" in nothing.agent_messages


def test_cgroup(out, cgroup):
    parent = cgroup(f"aperture-test-{os.getpid()}")
    child = cgroup(f"aperture-test-{os.getpid()}/below")
    with load("load-shares", 60) as target, load("load-deep", 60, 0):
        with open(f"{child}/cgroup.procs", "w") as procs:
            procs.write(str(target.pid))
        exact = support.profile(out, "--cgroup", child, "--duration", "1s", "--frequency", 199)
        above = support.profile(out, "--cgroup", parent, "--duration", "1s", "--frequency", 199)
    for document in (exact, above):
        assert set(document.comms()) == {"worker-0", "worker-1", "worker-2"}
        assert document.data["out_of_scope"] > 0


def test_container_id(cgroup, tmp_path):
    ident = (f"{os.getpid():x}" * 64)[:64]
    folder = cgroup(ident)
    path = tmp_path / "container.pb.gz"
    with load("load-shares", 60) as target:
        with open(f"{folder}/cgroup.procs", "w") as procs:
            procs.write(str(target.pid))
        agent = support.run_agent("--quiet", "--pid", target.pid, "-d", "1s", "-F", 199, "--output", path)
        assert agent.rc == 0, agent.err
    pprof = support.Pprof(path)
    assert pprof.profile.sample
    for sample in pprof.profile.sample:
        labels = pprof.labels(sample)
        assert labels["container"] == ident
        assert labels["pid"] == target.pid and labels["comm"].startswith("worker-")


def test_proc_of_another_pid_namespace_is_refused():
    agent = support.run_agent("-d", "1m", program=("unshare", "--pid", "--fork", "--kill-child", AGENT))
    assert agent.rc == support.FAILED and "/proc belongs to another pid namespace" in agent.err
