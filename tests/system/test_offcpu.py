# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Time off the CPU is what the waiting program measures, told apart by why it waits, and by whom it is ended."""
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

import support
from support import Agent, Capture, Held, near, record

# stands for what led to a wait that had begun when the recording did
BEFORE = "[blocked before the recording]"
MARKS = ("[interruptible]", "[uninterruptible]", "[preempted]")
# the waits of the loads end with a wake-up that may come late; short ones are looked at, too
EVERYTHING = ("--min-block", "1us")


def mark(tree, name):
    """What is below a mark of a thread, its truncated stacks with it."""
    assert {(node["name"], node["kind"]) for node in tree["children"]} <= {(one, "mark") for one in MARKS}
    found = [node for node in tree["children"] if node["name"] == name]
    below = [child for node in found for child in node["children"]]
    whole = [node for node in below if node["name"] != "[truncated]"]
    whole += [child for node in below if node["name"] == "[truncated]" for child in node["children"]]
    return {
        **{"name": name, "kind": "mark", "self": 0},
        **{key: sum(node[key] for node in found) for key in ("value", "samples")},
        "children": whole,
    }


def off_cpu(own):
    """What the load was off the CPU for in its waits: their length less what they took of it."""
    return own["total_ns"] - own["cpu_ns"]


@pytest.mark.sanitizer
@pytest.mark.parametrize(
    "kind, function, inside",
    (
        ("sleep", "block_in_sleep", "nanosleep"),
        ("pipe", "block_in_read", "pipe_read"),
        ("lock", "block_in_lock", "futex"),
    ),
)
def test_waits_are_what_the_program_measures(out, kind, function, inside):
    rounds = 40
    capture, own = record("offcpu", out, "load-blocks", kind, rounds)
    waits = mark(capture.thread("offcpu", "load-blocks"), "[interruptible]")
    assert own["waits"] == rounds
    assert support.named(waits, function) == rounds
    assert near(support.value_of(waits, function), off_cpu(own)), own
    # the wait is in the kernel, below the function
    for frame in support.frames(waits, function):
        assert frame["kind"] == "native" and frame["file"].endswith("load_blocks.c")
        assert any(node["kind"] == "kernel" and inside in node["name"] for node in support.walk(frame))


def test_waits_for_a_disk(out, tmp_path, tool):
    kind = tool("stat", "--file-system", "--format=%T", "/var/tmp").stdout.strip()
    if kind in ("tmpfs", "overlayfs", "ramfs"):
        pytest.skip(f"/var/tmp is {kind}")
    path = f"/var/tmp/aperture-{tmp_path.name}"
    capture, own = record("offcpu", out, "load-blocks", "fsync", 15, path, args=EVERYTHING)
    tree = capture.thread("offcpu", "load-blocks")
    # what waits were too short for a sample is in the account alone. The kernel counts some 50 us of each wake-up of an
    # idle virtual CPU as CPU time that the switch comes after: the truth is between that and the length of the call
    value = support.value_of(tree, "block_in_fsync")
    assert value <= own["total_ns"], own
    assert value + capture["offcpu"]["account"]["below_min_ns"] >= 0.98 * off_cpu(own), (value, own)
    disk = support.value_of(mark(tree, "[uninterruptible]"), "block_in_fsync")
    assert disk > 0.5 * value
    assert support.value_of(mark(tree, "[interruptible]"), "block_in_fsync") < 0.5 * value


def test_migration_does_not_amplify(out):
    """A thread that changes its CPU between waits and during them has waited no longer for it."""
    capture, own = record("offcpu", out, "load-blocks", "migrate", 40)
    tree = capture.thread("offcpu", "load-blocks")
    value = support.value_of(mark(tree, "[interruptible]"), "block_in_sleep")
    assert near(value, off_cpu(own)), own
    assert support.named(tree, "block_in_sleep") == own["waits"]
    assert tree["value"] - support.value_of(tree, BEFORE) <= own["wall_ns"] * 1.005


def test_preemption_is_kept_apart(out):
    capture, own = record("offcpu", out, "load-blocks", "preempt", 3, args=EVERYTHING)
    account = capture["offcpu"]["account"]
    for name in ("busy-0", "busy-1"):
        tree = capture.thread("offcpu", name)
        preempted = mark(tree, "[preempted]")
        # runnable without a CPU, by the kernel's own account of the thread
        assert preempted["value"] <= 1.05 * own[name]["run_delay_ns"], own
        assert preempted["value"] + account["below_min_ns"] >= 0.95 * own[name]["run_delay_ns"], own
        assert support.named(preempted, "block_in_sleep") == 0
        assert support.value_of(preempted, "worker") > 0.95 * preempted["value"]
        # it waits for its move to that CPU, before it begins
        others = sum(mark(tree, one)["value"] - support.value_of(mark(tree, one), "pin") for one in MARKS[:2])
        assert others < 0.02 * preempted["value"]
    tree = capture.thread("offcpu", "sleeps")
    slept = mark(tree, "[interruptible]")
    assert near(support.value_of(slept, "block_in_sleep"), own["sleeps"]["slept_ns"])
    assert mark(tree, "[preempted]")["value"] <= own["sleeps"]["run_delay_ns"] + 2e6


@pytest.mark.sanitizer
def test_short_waits_are_counted_and_summed(out):
    rounds = 100
    capture, own = record("offcpu", out, "load-blocks", "short", rounds)
    account = capture["offcpu"]["account"]
    waits = capture.thread("offcpu", "load-blocks")
    assert near(support.value_of(mark(waits, "[interruptible]"), "block_in_sleep"), own["long_ns"], 0.03)
    # the kernel's part of a wait is shorter than what the program measures
    assert account["below_min"] >= 0.95 * own["below"] > 0
    assert account["below_min_ns"] >= 0.5 * own["below_ns"]
    # each time that the kernel put another task in its place is one or the other; some more at its end
    seen = waits["samples"] - support.named(waits, BEFORE) + account["below_min"]
    assert own["switches"] <= seen <= own["switches"] + 8, (own, account)


def test_min_block(out):
    rounds = 100
    capture, own = record("offcpu", out, "load-blocks", "short", rounds, args=("--min-block", "20ms"))
    account = capture["offcpu"]["account"]
    assert support.named(capture["offcpu"]["root"], "block_in_sleep") == 0
    assert account["below_min"] >= own["switches"]
    assert near(account["below_min_ns"], own["short_ns"] + own["long_ns"], 0.05)
    capture, own = record("offcpu", out, "load-blocks", "short", rounds, args=EVERYTHING)
    # a timer that fires before its thread has left the CPU makes no wait
    assert 1.9 * rounds < support.named(capture["offcpu"]["root"], "block_in_sleep") < 2.1 * rounds
    # a sleep of 100 us takes some CPU time, too
    assert near(support.value_of(capture["offcpu"]["root"], "block_in_sleep"), own["short_ns"] + own["long_ns"], 0.05)


def waker_chains(tree, function):
    """(names of the waiting frames, nodes from the mark "[woken by]" on, waits) of the stacks with that function."""
    for chain, value in support.chains(tree):
        words = [node["name"] for node in chain]
        if function in words:
            at = words.index("[woken by]") if "[woken by]" in words else len(words)
            assert all(node.get("waker", False) == (i >= at) for i, node in enumerate(chain))
            yield words[:at], chain[at:], value


def with_waker(tree, function):
    """Those whose waker is known: nearly all. (Where a virtual machine hides tasks, what they wake is not told.)"""
    every = list(waker_chains(tree, function))
    found = [(words, waker) for words, waker, _ in every if waker]
    assert sum(value for _, waker, value in every if waker) > 0.85 * sum(value for *_, value in every) > 0, every
    return found


@pytest.mark.sanitizer
def test_waker_is_named(out):
    capture, own = record("offcpu", out, "load-blocks", "pipe", 40, args=("--waker",))
    waits = mark(capture.thread("offcpu", "load-blocks"), "[interruptible]")
    assert near(support.value_of(waits, "block_in_read"), off_cpu(own))
    for _, waker in with_waker(waits, "block_in_read"):
        assert waker[0]["kind"] == "mark"
        assert waker[-1]["kind"] == "process" and waker[-1]["name"] == "writer"
        below = [node["name"] for node in waker[1:-1]]
        kinds = [node["kind"] for node in waker[1:-1]]
        assert "write_to_pipe" in below
        # its leaf first: kernel, then user
        assert kinds == sorted(kinds, key=("kernel", "native", "unknown").index), kinds


def test_interrupt_as_waker(out):
    """A sleep is ended by a timer, in whatever runs there."""
    capture, own = record("offcpu", out, "load-blocks", "sleep", 40, args=("--waker",))
    waits = mark(capture.thread("offcpu", "load-blocks"), "[interruptible]")
    found = with_waker(waits, "block_in_sleep")
    assert all(waker[-1]["name"] == "[interrupt]" for _, waker in found), found
    assert near(support.value_of(waits, "block_in_sleep"), off_cpu(own))


def test_waker_outside_the_scope_is_named(out):
    """Who ends a wait has a name also when it is not what --pid asks for, or has ended by the time anybody looks."""
    own = pathlib.Path("/proc/thread-self/comm").read_text().strip()
    with support.load(shutil.which("cat"), stdin=subprocess.PIPE) as target:
        with Agent("--pid", target.pid, "--quiet", "--waker", "--output", out, mode="offcpu") as agent:
            for _ in range(20):
                time.sleep(0.02)  # a wait of cat, which this line ends
                target.popen.stdin.write("\n")
                target.popen.stdin.flush()
                time.sleep(0.02)
                subprocess.run(["echo"], stdout=target.popen.stdin, check=True)
            agent.stop(signal.SIGINT)
        assert agent.rc == 0, agent.err
    waits = Capture(out).thread("offcpu", "cat")
    named = [chain[-1] for chain, _ in support.chains(waits) if any(node["name"] == "[woken by]" for node in chain)]
    assert all(node["kind"] == "process" for node in named)
    assert {own, "echo"} <= {node["name"] for node in named} <= {own, "echo", "[interrupt]"}


def test_without_waker_there_is_none(out):
    capture, _ = record("offcpu", out, "load-blocks", "pipe", 5)
    assert not support.frames(capture["offcpu"]["root"], "[woken by]")


@pytest.mark.sanitizer
def test_wait_that_does_not_end(out):
    with Held("load-blocks", "forever", 1) as target:
        with Agent("--pid", target.pid, "--quiet", "--output", out, mode="offcpu") as agent:
            target.go()
            own = target.line()
            time.sleep(1)  # the length of the wait, not a wait for something
            ended = time.monotonic_ns()
            agent.stop(signal.SIGINT)
    assert agent.rc == 0, agent.err
    tree = Capture(out).thread("offcpu", "stuck")
    value = support.value_of(mark(tree, "[interruptible]"), "block_in_read")
    assert near(value, ended - own["began_ns"], 0.05), (value, ended - own["began_ns"])


def test_sampling_keeps_the_total(out):
    rounds, every = 250, 4
    args = (*EVERYTHING, "--sample-every", every)
    capture, own = record("offcpu", out, "load-blocks", "crowd", rounds, args=args)
    tree = capture.thread("offcpu", "crowd")
    waits = 16 * rounds
    kept = support.named(tree, "block_in_sleep")
    # of n waits each is kept with probability p: four standard deviations
    share = 1 / every
    assert abs(kept - waits * share) < 4 * (waits * share * (1 - share)) ** 0.5, kept
    slack = 4 * ((every - 1) / waits) ** 0.5
    value = support.value_of(tree, "block_in_sleep")
    assert near(value, own["total_ns"], slack + 0.03), (value, own)
    assert value / kept > 1.5 * own["total_ns"] / waits  # each stands for several


def test_scope_is_the_target(out):
    with support.load("load-blocks", "sleep", 200):
        capture, _ = record("offcpu", out, "load-blocks", "pipe", 10)
    assert set(node["name"] for node in capture["offcpu"]["root"]["children"]) <= {"load-blocks", "writer"}
    assert not support.frames(capture["offcpu"]["root"], "block_in_sleep")


def test_formats_have_content(tmp_path, out):
    outputs = [tmp_path / f"offcpu.{end}" for end in ("txt", "svg", "collapsed", "pb.gz")]
    capture, _ = record("offcpu", out, "load-blocks", "sleep", 20, outputs=outputs)
    text, svg, lines, pprof = outputs
    assert "block_in_sleep" in svg.read_text() and support.svg_meta(svg)
    assert "block_in_sleep" in text.read_text()
    stacks = support.collapsed(lines)
    # microseconds, each stack rounded by itself
    assert abs(sum(stacks.values()) * 1000 - capture["offcpu"]["root"]["value"]) <= 1000 * len(stacks)
    assert any("[interruptible]" in stack and "block_in_sleep" in stack for stack in stacks)
    profile = support.Pprof(pprof)
    assert any("block_in_sleep" in profile.stack(sample) for sample in profile.profile.sample)
    assert any(unit == "nanoseconds" for _, unit in profile.types())
