# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Who waits for which lock, for how long, and who lets go of it. The loads measure each wait themselves."""
import json
import signal
import time

import pytest

import support
from support import Agent, Capture, Held, near, record

READ_WRITE = ("wait_for_reading", "wait_for_writing")
# kind of load: (type of lock, waiting function, releasing function, its thread, global variable)
KINDS = {
    "mutex": ("mutex", "wait_for_mutex", "release_mutex_here", "load-locks", "shared_mutex"),
    "heap": ("mutex", "wait_for_mutex", "release_mutex_here", "load-locks", None),
    "pi": ("pi_mutex", "wait_for_mutex", "release_mutex_here", "load-locks", "shared_pi_mutex"),
    "rwlock": ("rwlock", READ_WRITE, "release_rwlock_here", "load-locks", "shared_rwlock"),
    "condvar": ("condvar", "wait_for_condvar", "signal_condvar_here", "load-locks", "shared_condvar"),
    "sem": ("semaphore", "wait_for_sem", "post_sem_here", "load-locks", "shared_sem"),
    "barrier": ("barrier", "wait_at_barrier", "come_to_barrier_late", "load-locks", "shared_barrier"),
    # the kernel wakes whoever waits for a thread, as its last deed in that thread
    "join": ("join", "wait_for_join", None, "sleeper", None),
}
CONTENTION = ("mutex", "rwlock", "pi_mutex", "spin", "rt_mutex", "percpu_rw", "futex")
WAITER = {"join": "load-locks"}
OBJECT_SZ = 128  # no object of the C library is larger
ROUNDS = 12


def user_locks(capture, comm="load-locks"):
    return [row for row in capture["lock"]["locks"] if not row["kernel"] and row["comm"] == comm]


def the_row(capture):
    """The one lock that the load waits for."""
    rows = user_locks(capture)
    assert rows, capture["lock"]["locks"]
    assert sum(row["total_ns"] for row in rows) < 1.02 * rows[0]["total_ns"], rows
    return rows[0]


def summed(rows):
    """Rows of one object as one. A condition variable has its waiters in two groups, each with a word of its own."""
    counts = ("waits", "total_ns", "timeouts", "in_flight")
    return {
        **rows[0],
        **{key: sum(row[key] for row in rows) for key in counts},
        "max_ns": max(row["max_ns"] for row in rows),
        **{key: [one for row in rows for one in row[key]] for key in ("waiters", "wakers", "pairs")},
    }


def names(side):
    return [frame["name"] for frame in side["stack"]]


def biggest(sides):
    return max(sides, key=lambda side: side["total_ns"])


def user_waits(tree, function):
    """Waits below a function, without those for locks of the kernel that an interrupt met there."""
    return sum(
        count
        for chain, count in support.chains(tree)
        if function in {node["name"] for node in chain} and all(node["kind"] != "kernel" for node in chain)
    )


def in_object(row, own):
    """The lock's word lies in the object whose address the load tells."""
    return 0 <= int(row["address"], 16) - int(own["address"], 16) < OBJECT_SZ


@pytest.mark.sanitizer
@pytest.mark.parametrize("kind", KINDS)
def test_waits_are_what_the_program_measures(out, kind):
    lock_type, waiting, releasing, releaser, symbol = KINDS[kind]
    capture, own = record("lock", out, "load-locks", kind, ROUNDS)
    row = summed(user_locks(capture)) if kind == "condvar" else the_row(capture)
    assert own["waits"] == ROUNDS
    assert row["waits"] == own["waits"], row
    assert near(row["total_ns"], own["total_ns"]), (row, own)
    assert near(row["max_ns"], own["max_ns"], 0.05)
    assert row["type"] == lock_type
    assert (row["timeouts"], row["in_flight"]) == (0, 0)
    if kind != "join":
        assert in_object(row, own), (row["address"], own["address"])
    if symbol:
        assert row["symbol"].split("+")[0] == symbol
    else:
        assert "symbol" not in row
    # the tree has the same waits
    tree = capture.thread("lock", WAITER.get(kind, "waiter"))
    for name in (waiting,) if isinstance(waiting, str) else waiting:
        assert user_waits(tree, name) == ROUNDS / (1 if isinstance(waiting, str) else 2), name
    assert near(tree["value"], own["total_ns"])

    waiters = {name for side in row["waiters"] for name in names(side)}
    assert {waiting} <= waiters if isinstance(waiting, str) else set(waiting) <= waiters, waiters
    assert {side["comm"] for side in row["waiters"]} == {WAITER.get(kind, "waiter")}
    assert sum(side["count"] for side in row["waiters"]) == ROUNDS
    assert near(sum(side["total_ns"] for side in row["waiters"]), own["total_ns"])
    # a reader is told a function of the program, not of the C library
    assert all("wait_" in side["site"] or "call_" in side["site"] for side in row["waiters"]), row["waiters"]

    wakers = [side for side in row["wakers"] if not releasing or releasing in names(side)]
    assert {side["comm"] for side in wakers} == {releaser}
    assert sum(side["count"] for side in wakers) == ROUNDS
    assert near(sum(side["total_ns"] for side in wakers), own["total_ns"])
    assert sum(pair["count"] for pair in row["pairs"]) == ROUNDS
    assert near(sum(pair["total_ns"] for pair in row["pairs"]), own["total_ns"])


def test_lock_between_processes(out):
    """The two processes see the lock at different addresses; --children brings in the one that holds it."""
    capture, own = record("lock", out, "load-locks", "shared", ROUNDS, args=("--children",))
    rows = [row for row in capture["lock"]["locks"] if not row["kernel"]]
    row = rows[0]
    assert row["waits"] == own["waits"] == ROUNDS and near(row["total_ns"], own["total_ns"]), row
    assert row["type"] == "mutex" and in_object(row, own)
    assert "wait_for_mutex" in names(biggest(row["waiters"]))
    waker = biggest(row["wakers"])
    assert waker["comm"] == "holder" and "release_mutex_here" in names(waker)
    assert biggest(row["waiters"])["pid"] != waker["pid"]


def test_waker_outside_the_scope(out):
    """--pid says whose waits are recorded; they are whole, whoever ends them, and nobody in scope is blamed."""
    capture, own = record("lock", out, "load-locks", "shared", ROUNDS)
    (row,) = user_locks(capture, "waiter")  # the process is named by its main thread, which is the one that waits
    assert row["waits"] == ROUNDS and near(row["total_ns"], own["total_ns"])
    assert {side.get("comm", "holder") for side in row["wakers"]} == {"holder"}


@pytest.mark.sanitizer
def test_timeouts_are_counted_apart(out):
    capture, own = record("lock", out, "load-locks", "timed", ROUNDS)
    row = the_row(capture)
    assert row["timeouts"] == own["timeouts"] == ROUNDS
    assert near(row["timeout_ns"], own["timeout_ns"]), (row, own)
    assert row["waits"] == own["waits"] == ROUNDS
    assert near(row["total_ns"], own["total_ns"]), (row, own)
    assert row["type"] == "mutex" and row["symbol"] == "shared_mutex"


def test_interrupted_waits_are_counted_apart(out):
    capture, own = record("lock", out, "load-locks", "interrupted", ROUNDS)
    row = the_row(capture)
    assert own["signals"] == 3 * ROUNDS
    assert row["interrupted"] == own["signals"], row
    assert row["waits"] == ROUNDS
    assert near(row["total_ns"] + row["interrupted_ns"], own["total_ns"]), (row, own)
    # each of the four parts of a wait is as long as the others
    assert near(row["interrupted_ns"], 3 * row["total_ns"], 0.25)


@pytest.mark.sanitizer
def test_no_contention_no_rows(out):
    capture, own = record("lock", out, "load-locks", "none", 1)
    assert own["signals"] > 100000  # locks that were taken
    assert [row for row in user_locks(capture) if row["type"] in CONTENTION] == []
    # an interrupt may meet a lock of the kernel in them, and the exit waits for nobody in user space
    for chain, _ in support.chains(capture["lock"]["root"]):
        assert any(node["kind"] == "kernel" for node in chain), [node["name"] for node in chain]


def test_many_waiters_of_one_lock(out):
    capture, own = record("lock", out, "load-locks", "herd", 100)
    row = the_row(capture)
    assert near(row["total_ns"], own["total_ns"], 0.03), (row, own)
    assert row["waits"] + row["retried"] >= own["waits"]
    for sides, function in ((row["waiters"], "wait_for_mutex"), (row["wakers"], "release_mutex_here")):
        assert sum(side["total_ns"] for side in sides if function in names(side)) > 0.98 * row["total_ns"]
    assert near(sum(pair["total_ns"] for pair in row["pairs"]), row["total_ns"])


def test_wait_that_does_not_end(out):
    with Held("load-locks", "stuck", 1) as target:
        with Agent("--pid", target.pid, "--quiet", "--output", out, mode="lock") as agent:
            target.go()
            own = target.line()
            time.sleep(1)  # the length of the wait, not a wait for something
            ended = time.monotonic_ns()
            agent.stop(signal.SIGINT)
    assert agent.rc == 0, agent.err
    row = the_row_in_flight(Capture(out))
    assert row["in_flight"] == 1 and row["waits"] == 0
    assert near(row["in_flight_ns"], ended - own["began_ns"], 0.05)
    assert row["type"] == "mutex" and row["symbol"] == "shared_mutex"
    assert "wait_for_mutex" in names(row["waiters"][0])


def the_row_in_flight(capture):
    return next(row for row in user_locks(capture) if row["in_flight"])


def test_kernel_locks(out):
    """Threads that change their memory map wait for each other in the kernel."""
    capture, _ = record("lock", out, "load-locks", "kernel", 2)
    rows = [row for row in capture["lock"]["locks"] if row["kernel"]]
    assert sum(row["waits"] for row in rows) > 20
    assert {row["type"] for row in rows} <= {"mutex", "rwlock", "spin", "rt_mutex", "percpu_rw"}
    ours = [side for row in rows for side in row["waiters"] if side.get("comm") == "mapper"]
    assert ours and any("mapper" in names(side) for side in ours)


def test_formats_have_content(tmp_path, out):
    outputs = [tmp_path / f"lock.{end}" for end in ("txt", "svg", "collapsed", "pb.gz")]
    capture, own = record("lock", out, "load-locks", "mutex", ROUNDS, outputs=outputs)
    text, svg, lines, pprof = outputs
    words = text.read_text()
    for word in ("shared_mutex", "mutex", "call_lock", "call_unlock", "wait_for_mutex", "load-locks", "waiter"):
        assert word in words, words
    assert "wait_for_mutex" in svg.read_text()
    assert support.svg_meta(svg)
    stacks = support.collapsed(lines)
    # microseconds, each stack rounded by itself
    assert abs(sum(stacks.values()) * 1000 - capture["lock"]["root"]["value"]) <= 1000 * len(stacks)
    assert any("wait_for_mutex" in stack for stack in stacks)
    profile = support.Pprof(pprof)
    assert any("wait_for_mutex" in profile.stack(sample) for sample in profile.profile.sample)
    assert json.loads(out.read_text())["profiles"][0]["kind"] == "lock"
