# SPDX-License-Identifier: Apache-2.0 OR MIT
"""aperture-cli profile -- COMMAND."""
import os
import signal

import pytest

import support
from support import BUILD, CLI, USAGE, Document, Process

LOADS = BUILD / "tests"


def command(*words, out=None, timeout=90, **options):
    args = ("--quiet", "--frequency", 499, "--output", out) if out else ("--quiet",)
    with Process([CLI, "profile", *args, "--", *words], **options) as cli:
        cli.wait(timeout)
    assert not support.CRASH.search(cli.err), cli.err
    return cli


@pytest.mark.sanitizer
@pytest.mark.parametrize(
    "script, status", (("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137))
)
def test_status_is_passed_on(out, script, status):
    cli = command("sh", "-c", script, out=out)
    assert cli.rc == status, cli.err
    Document(out)


@pytest.mark.sanitizer
def test_streams_belong_to_the_command(out):
    with Process([CLI, "profile", "--", "sh", "-c", "cat; echo problem >&2"], stdin=-1) as cli:
        cli.out, cli.err = cli.popen.communicate("a line\n", timeout=60)
        assert cli.popen.returncode == 0
    assert cli.out == "a line\n"
    assert "problem\n" in cli.err and "expected" in cli.err  # the table is on standard error


@pytest.mark.sanitizer
def test_missing_command(out):
    cli = command("no-such-command-here", out=out)
    assert cli.rc == 127 and "no-such-command-here" in cli.err
    cli = command("/", out=out)
    assert cli.rc == 127 and '"/"' in cli.err


@pytest.mark.sanitizer
def test_usage():
    assert command().rc == USAGE
    with Process([CLI, "profile", "--frequencey", "9", "--", "true"]) as cli:
        assert cli.wait().rc == USAGE and "--frequency" in cli.err
    with Process([CLI, "profile", "--frequency", "x", "--", "touch", "/nonexistent/never"]) as cli:
        assert cli.wait().rc not in (0, 127) and "was not run" in cli.err


def test_command_is_not_run_without_a_profile(tmp_path):
    mark = tmp_path / "ran"
    with Process([CLI, "profile", "--output", tmp_path / "no" / "p.svg", "--", "touch", mark]) as cli:
        assert cli.wait().rc == 1 and "directory does not exist" in cli.err
    assert not mark.exists()


@pytest.mark.sanitizer
def test_profile_is_of_the_command(out):
    with support.load("load-deep", 60, 0):
        cli = command(LOADS / "load-shares", 1, out=out)
    assert cli.rc == 0, cli.err
    assert int(cli.out) > 0
    document = Document(out)
    assert {"worker-0", "worker-1", "worker-2"} <= set(document.comms()) <= {
        "worker-0", "worker-1", "worker-2", "load-shares", "aperture-cli"
    }
    spent = int(cli.out) / 1e9
    assert abs(document.expected / 499 / spent - 1) < 0.15
    # from its first instruction on
    assert support.named(document.root, "work") > 0.9 * document.delivered


def test_profile_has_the_commands_children(out):
    cli = command(LOADS / "load-forks", 200, 5, out=out)
    assert cli.rc == 0, cli.err
    document = Document(out)
    cpu = int(cli.out.split()[1]) / 1e9
    assert support.named(document.comm("exe"), "short_lived") > 0.6 * cpu * 499


@pytest.mark.sanitizer
def test_interrupt_reaches_both(out):
    """Ctrl-C goes to the whole group, as a terminal sends it."""
    args = ("--quiet", "--frequency", 199, "--output", out)
    with Process([CLI, "profile", *args, "--", LOADS / "load-deep", 60, 0], start_new_session=True) as cli:
        pid = support.descendant(cli.pid, "load-deep")
        support.wait_until(lambda: support.cpu_seconds(pid) > 0.4)
        os.killpg(cli.pid, signal.SIGINT)
        cli.wait()
    assert cli.rc == 128 + signal.SIGINT, cli.err
    assert support.named(Document(out).root, "main") > 10


def test_command_that_outlives_its_profile(out):
    with Process(
        [CLI, "profile", "--quiet", "--duration", "500ms", "--output", out, "--", LOADS / "load-shares", 2]
    ) as cli:
        assert cli.wait().rc == 0, cli.err
    assert int(cli.out) > 0
    assert Document(out).cpu["duration_ns"] < 1.9e9
