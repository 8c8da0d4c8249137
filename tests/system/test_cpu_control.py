# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Starting, stopping and failing: what is left behind, and what is said."""
import contextlib
import json
import os
import re
import signal
import time

import pytest

import support
from support import AGENT, FAILED, USAGE, Agent, Document, Process, load

TERSE = ("--quiet", "-F", 199)


def message(agent, status, *words):
    """The agent failed with this status and one message that has these words."""
    assert agent.rc == status, (agent.rc, agent.err)
    assert not support.CRASH.search(agent.err), agent.err
    assert re.search("^aperture-agent: error: ", agent.err, re.M)
    for word in words:
        assert re.search(word, agent.err), agent.err


# Ends


@pytest.mark.sanitizer
@pytest.mark.parametrize("signum", (signal.SIGINT, signal.SIGTERM))
@pytest.mark.parametrize("limit", ((), ("--duration", "1h")), ids=("open-ended", "early"))
def test_signal_ends_and_writes(out, signum, limit):
    with load("load-deep", 60, 0) as target:
        with Agent("--pid", target.pid, *TERSE, *limit, "--output", out) as agent:
            support.wait_until(lambda: support.cpu_seconds(target.pid) > 0.5)
            agent.stop(signum)
    assert agent.rc == 0 and not support.CRASH.search(agent.err), agent.err
    document = Document(out)
    assert document.delivered > 10
    assert document.cpu["duration_ns"] < 60e9


def test_killed_agent_leaves_nothing(tmp_path, tool):
    def ids(kind, name=""):
        shown = json.loads(tool("bpftool", "-j", kind, "list").stdout)
        return {one["id"] for one in shown if one.get("name", "").startswith(name)}

    with Agent(*TERSE, "--output", tmp_path / "killed.svg") as agent:
        held = {kind: support.bpf_ids(agent.pid, kind) for kind in ("prog", "map", "link")}
        assert held["prog"] & ids("prog", "cpu_sample") and held["map"]
        workers = support.children(agent.pid)
        agent.popen.kill()
        agent.wait()
    assert agent.rc == -signal.SIGKILL
    for kind, numbers in held.items():
        support.wait_until(lambda k=kind, n=numbers: not n & ids(k), what=f"no {kind} of the agent")
    for worker in workers:
        support.wait_until(lambda w=worker: support.read(f"/proc/{w}/stat").split()[2:3] in ([], ["Z"], ["X"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sanitizer
def test_target_that_ends(out):
    with load("load-shares", 2) as target:
        started = time.monotonic()
        agent = support.run_agent("--pid", target.pid, *TERSE, "--duration", "10m", "--output", out)
        assert agent.rc == 0, agent.err
        assert time.monotonic() - started < 45
    document = Document(out)
    assert document.delivered > 20 and document.cpu["duration_ns"] < 40e9
    for name in ("share_fifty", "work"):
        assert support.named(document.root, name) > 0
    assert document.reasons()["process_gone"] == document.reasons()["file_gone"] == 0


def test_runs_until_the_last_target_ends(out):
    with load("load-shares", 1) as first, load("load-shares", 3) as last:
        agent = support.run_agent("-p", first.pid, "-p", last.pid, *TERSE, "--output", out)
        assert agent.rc == 0, agent.err
        assert last.popen.poll() is not None or "Z" in support.read(f"/proc/{last.pid}/stat")


@pytest.mark.sanitizer
def test_duration_is_kept(out):
    document = support.profile(out, "--duration", "700ms", "-F", 99)
    slack = 5e9 if "asan" in support.BUILD.name else 1.5e9  # the first look at a host's programs is slow there
    assert 0.7e9 <= document.cpu["duration_ns"] < slack


# Usage


@pytest.mark.sanitizer
@pytest.mark.parametrize(
    "args, words",
    (
        (("--mode", "gpu"), ("mode", "gpu", "cpu")),
        (("--duration", "soon"), ("duration", "soon")),
        (("--duration", "0"), ("duration",)),
        (("--duration", "-5s"), ("duration",)),
        (("--duration", "99999999d"), ("duration",)),
        (("--frequency", "0"), ("frequency",)),
        (("--frequency", "99999999999999999999"), ("frequency",)),
        (("--frequency", "fast"), ("frequency", "fast")),
        (("--frequencey", "99"), ("frequencey", "--frequency")),
        (("--durtion=3s",), ("durtion", "--duration")),
        (("--output",), ("output",)),
        (("--comm", "a-name-that-is-too-long"), ("comm", "15")),
        (("--comm", ""), ("comm",)),
        (("--pid", "0"), ("pid",)),
        (("--pid", "-1"), ("pid",)),
        (("--pid", "init"), ("pid", "init")),
        (("--pid", "4294967296"), ("pid",)),
        (("--output", "profile.xyz"), ("profile.xyz", r"\.svg")),
        (("--output", "profile"), ("\"profile\"", r"\.svg")),
        (("--format", "dot"), ("format", "dot", "svg")),
        (("--event", "tea"), ("event", "tea", "cycles")),
        (("--top", "0"), ("top",)),
        (("surplus",), ("surplus",)),
    ),
)
def test_usage(args, words):
    with Process([AGENT, *args]) as agent:
        message(agent.wait(), USAGE, "--help", *words)
    assert agent.out == ""


@pytest.mark.sanitizer
def test_help_and_version():
    with Process([AGENT, "--help"]) as agent:
        assert agent.wait().rc == 0 and "--frequency" in agent.out and agent.err == ""
    with Process([AGENT, "--version"]) as agent:
        assert agent.wait().rc == 0 and re.search(r"\d+\.\d+", agent.out)


# Failures


def fails_at_once(*args, words, **options):
    """The message comes before the capture, which would take a minute."""
    started = time.monotonic()
    agent = support.run_agent("--quiet", "--duration", "1m", *args, **options)
    assert time.monotonic() - started < 10
    message(agent, FAILED, *words)
    return agent


@pytest.mark.sanitizer
def test_output_cannot_be_written(tmp_path):
    missing = tmp_path / "no" / "such" / "p.svg"
    fails_at_once("--output", missing, words=(str(missing), "directory does not exist"))
    folder = tmp_path / "folder.svg"
    folder.mkdir()
    fails_at_once("--output", folder, words=(str(folder), "is a directory"))
    below_file = tmp_path / "file"
    below_file.write_text("")
    fails_at_once("--output", below_file / "p.svg", words=("directory does not exist",))
    # the good output is not begun when another is bad
    fails_at_once("--output", tmp_path / "good.json", "--output", missing, words=(str(missing),))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder.svg"]


@pytest.mark.sanitizer
def test_target_that_is_no_process():
    with Process(["true"]) as gone:
        gone.wait()
    fails_at_once("--pid", gone.pid, words=(f"--pid {gone.pid}", "no such process"))


def test_target_that_is_a_thread():
    with load("load-shares", 60) as target:
        tasks = support.wait_until(lambda: [t for t in os.listdir(f"/proc/{target.pid}/task") if int(t) != target.pid])
        fails_at_once("--pid", tasks[0], words=(f"--pid {tasks[0]}", "is a thread"))


@pytest.mark.sanitizer
def test_cgroup_that_is_none(tmp_path):
    fails_at_once("--cgroup", tmp_path, words=(re.escape(str(tmp_path)), "cgroup"))
    fails_at_once("--cgroup", tmp_path / "missing", words=("missing",))


@pytest.mark.parametrize("kept, words", (("-all", ("CAP_BPF", "CAP_PERFMON")), ("-all,+bpf", ("CAP_PERFMON",))))
def test_without_privileges(tmp_path, kept, words):
    os.chmod(tmp_path, 0o777)
    for folder in (AGENT, *AGENT.parents):
        if not os.stat(folder).st_mode & 0o001:
            pytest.skip(f"others may not enter {folder}")
    flags = ["--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={kept}", f"--ambient-caps={kept}"]
    if "+" not in kept:
        flags.append("--bounding-set=-all")
    agent = fails_at_once(program=("setpriv", *flags, AGENT), words=(*words, "setcap", "root"))
    assert ("CAP_BPF" in agent.err) == ("CAP_BPF" in words)


def test_frequency_over_the_kernels_limit(sysctl, out):
    sysctl("kernel.perf_event_max_sample_rate", 500)
    fails_at_once("--frequency", 999, words=("999", "500", "perf_event_max_sample_rate"))
    support.profile(out, "--frequency", 400, "--duration", "300ms")


def test_event_that_this_machine_lacks(tool):
    counters = tool("perf", "stat", "-x,", "-e", "cycles", "true", check=False).stderr
    if "not supported" not in counters:
        pytest.skip("this machine has hardware counters")
    fails_at_once("--event", "cycles", words=("cycle", "cpu-clock"))


@pytest.mark.sanitizer
@pytest.mark.parametrize("end", ("svg", "json", "pb.gz", "collapsed"))
def test_disk_full(tmp_path, end):
    disk = tmp_path / "disk"
    disk.mkdir()
    path = disk / f"p.{end}"
    script = (
        f"mount -t tmpfs -o size=16k none {disk} && echo before >{path} && head -c 12288 /dev/zero >{disk}/filler && "
        f"{{ head -c 12288 /dev/zero >>{disk}/filler || :; }} 2>/dev/null; "
        f"{AGENT} --quiet -d 1s -F 499 --output {path}; rc=$?; ls -A {disk}; cat {path}; exit $rc"
    )
    with load("load-deep", 60, 5), Process(["unshare", "--mount", "sh", "-c", script]) as agent:
        agent.wait()
    message(agent, FAILED, re.escape(str(path)), "no space")
    assert sorted(agent.out.split()) == ["before", "filler", f"p.{end}"]


@pytest.mark.sanitizer
def test_standard_output_full(out):
    with open("/dev/full", "w") as full:
        profile = support.run_agent("-d", "300ms", "-F", 99, "-o", "-", "--format", "json", stdout=full)
        message(profile, FAILED, '"-"|standard output', "no space")
        table = support.run_agent("-d", "300ms", "-F", 99, "-o", out, stdout=full)
        message(table, FAILED, "table", "[Nn]o space")
    Document(out)  # the profile is there all the same


@pytest.mark.sanitizer
def test_standard_output_closed(out):
    program = ("sh", "-c", 'exec "$0" "$@" >&-', AGENT)
    table = support.run_agent("-d", "300ms", "-F", 99, program=program)
    message(table, FAILED, "table")
    profile = support.run_agent("-d", "300ms", "-F", 99, "-o", "-", "--format", "json", program=program)
    message(profile, FAILED, '"-"|standard output')


@pytest.mark.sanitizer
def test_reader_of_standard_output_gone():
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        agent = support.run_agent("-d", "300ms", "-F", 99, "-o", "-", "--format", "svg", stdout=write_end)
    finally:
        os.close(write_end)
    message(agent, FAILED, "[Bb]roken pipe")


def test_output_to_a_pipe_and_replaced_output(tmp_path):
    path = tmp_path / "p.json"
    path.write_text("old")
    os.chmod(path, 0o600)
    support.profile(path, "-d", "300ms", "-F", 99)
    assert list(tmp_path.iterdir()) == [path]
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Process(["cat", fifo]) as reader:
        agent = support.run_agent("--quiet", "-d", "300ms", "-F", 99, "--output", fifo, "--format", "json")
        assert agent.rc == 0, agent.err
        assert json.loads(reader.wait().out)["schema"] == 1
    assert fifo.is_fifo()


def test_messages_as_json():
    agent = support.run_agent("--log-format", "json", "--pid", 2**31 - 1)
    assert agent.rc == FAILED
    entries = [json.loads(line) for line in agent.err.splitlines()]
    assert any("no such process" in str(one) for one in entries)


def test_self_test():
    agent = support.run_agent("--self-test")
    assert agent.rc == 0 and agent.out, agent.err


# CPUs that come and go


def test_cpu_hotplug(out):
    switch = "/sys/devices/system/cpu/cpu1/online"
    if not os.access(switch, os.W_OK) or support.read(switch).strip() != "1":
        pytest.skip("cpu1 cannot be switched off")

    def turn(value):
        try:
            with open(switch, "w") as file:
                file.write(value)
        except OSError as error:
            pytest.skip(f"cpu1 cannot be switched: {error}")

    def spend(target, seconds):
        before = support.cpu_seconds(target.pid)
        support.wait_until(lambda: support.cpu_seconds(target.pid) - before > seconds, 60, "CPU time")

    with contextlib.ExitStack() as stack:
        target = stack.enter_context(load("load-shares", 120))
        stack.callback(lambda: support.read(switch).strip() == "1" or turn("1"))
        with Agent("--pid", target.pid, *TERSE, "--output", out) as agent:
            spend(target, 1)
            turn("0")
            spend(target, 1)
            turn("1")
            # from here on all of it runs on the CPU that was away; the agent looks for CPUs once a second
            for task in os.listdir(f"/proc/{target.pid}/task"):
                os.sched_setaffinity(int(task), {1})
            spend(target, 4)
            agent.stop(signal.SIGINT)
    assert agent.rc == 0 and not support.CRASH.search(agent.err), agent.err
    document = Document(out)
    # one second on both CPUs, one on the first, and of the four on the second at least two
    assert document.delivered > 0.9 * 199 * 4
