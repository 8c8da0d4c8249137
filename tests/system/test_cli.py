# SPDX-License-Identifier: Apache-2.0 OR MIT
"""aperture-cli against an aggregator: the command lines that must work as written, and what they say."""
import csv
import io
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

import support
from aggregator import Aggregator, Sums, make_batch
from support import BUILD, CLI, Process

SECOND = 10**9
SAMPLES = [
    ("nginx", ("main", "serve", "read_request"), 30, 300_000_000),
    ("nginx", ("main", "serve", "write,response"), 10, 100_000_000),
    ("postgres", ("main", "execute", "hash_join"), 60, 600_000_000),
]
LATER = [
    ("nginx", ("main", "serve", "read_request"), 30, 300_000_000),
    ("nginx", ("main", "serve", "new_function"), 70, 700_000_000),
]


@pytest.fixture(scope="module")
def server():
    """With a batch of a minute ago and one of 40 minutes ago."""
    now = time.time_ns()
    with Aggregator() as server:
        with server.client() as client:
            client.push("agent-1", 1, make_batch(SAMPLES, now - 2400 * SECOND, host="web-1", labels=[("zone", "a")]))
            client.push("agent-2", 1, make_batch(LATER, now - 60 * SECOND, host="web-2", labels=[("zone", "b")]))
        yield server


def run(server, *args, expect=0, env=()):
    places = {
        "APERTURE_ENDPOINT": f"http://127.0.0.1:{server.port}",
        "APERTURE_HTTP_ENDPOINT": f"http://127.0.0.1:{server.http_port}",
    }
    with Process([CLI, *args], env=os.environ | places | dict(env)) as cli:
        cli.wait(60)
    assert cli.rc == expect, cli.err
    assert not support.CRASH.search(cli.err)
    return cli


def rows(server, *args):
    return json.loads(run(server, *args, "--format", "json").out)


@pytest.mark.sanitizer
def test_the_lines_of_the_readme(server):
    """As written, but for the port."""
    at = ("--endpoint", f"http://127.0.0.1:{server.port}")
    query = run(server, "query", *at, "--limit", "10")
    assert "agent-1" in query.out and "agent-2" in query.out
    aggregate = run(server, "aggregate", *at, "--event_type", "cpu", "--limit", "100")
    assert "hash_join" in aggregate.out and "read_request" in aggregate.out
    diff = run(server, "diff", *at, "--event_type", "cpu", "--limit", "100")
    assert "new_function" in diff.out and "hash_join" in diff.out


@pytest.mark.sanitizer
def test_sums(server):
    sums = Sums(SAMPLES + LATER)
    answer = rows(server, "aggregate", "--limit", "100")
    functions = {row["function"]: row for row in answer["functions"]}
    for name, value in sums.self_value.items():
        assert functions[name]["self"] == value and functions[name]["self_count"] == sums.self_count[name]
    for name, value in sums.total_value.items():
        assert functions[name]["total"] == value
    assert answer["provenance"]["samples"] == sums.count and answer["provenance"]["batches"] == 2
    assert [row["function"] for row in answer["functions"]][0] == "new_function"  # by its own time


@pytest.mark.parametrize(
    "args, expected",
    [
        (("--since", "10m"), LATER),
        (("--from", "1h ago", "--to", "10m"), SAMPLES),
        (("--host", "web-1"), SAMPLES),
        (("--host", "web-1", "--host", "web-2"), SAMPLES + LATER),
        (("--label", "zone=b"), LATER),
        (("--match", 'zone!="b"'), SAMPLES),
        (("--match", '{zone=~"a|b",host="web-2"}'), LATER),
        (("--comm", "postgres"), SAMPLES[2:]),
        (("--function", "quest"), [SAMPLES[0], LATER[0]]),
        (("--function-regex", "^(hash|new)_"), [SAMPLES[2], LATER[1]]),
        (("--pid", "1"), []),
    ],
)
def test_selectors(server, args, expected):
    sums = Sums(expected)
    answer = rows(server, "top", "--since", "1h", *args) if "--since" not in args and "--from" not in args else rows(
        server, "top", *args
    )
    assert answer["provenance"]["samples"] == sums.count
    assert {row["function"]: row["self"] for row in answer["functions"] if row["self"]} == dict(sums.self_value)


def test_stacks(server):
    answer = rows(server, "query", "--stored", "--limit", "2")
    assert answer["stack_total"] == 4 and len(answer["stacks"]) == 2
    assert answer["stacks"][0]["stack"] == "nginx;main;serve;new_function"
    assert answer["stacks"][0]["value"] == 700_000_000


def test_tables_and_csv(server):
    table = run(server, "aggregate").out.splitlines()
    assert table[0].split()[:2] == ["SELF", "TOTAL"] and "none lost" in table[-1]
    lines = list(csv.DictReader(io.StringIO(run(server, "aggregate", "--format", "csv").out)))
    assert {line["function"] for line in lines} >= {"write,response", "main"}
    assert sum(int(line["self"]) for line in lines) == Sums(SAMPLES + LATER).value


def test_agents(server):
    answer = rows(server, "agents")
    assert [row["agent_id"] for row in answer["agents"]] == ["agent-1", "agent-2"]
    assert [row["host"] for row in answer["agents"]] == ["web-1", "web-2"]
    assert "web-1" in run(server, "agents").out


@pytest.mark.parametrize("name", ["x.svg", "x.json", "x.collapsed", "x.pb.gz", "x.speedscope.json"])
def test_export(server, name, tmp_path):
    run(server, "export", "--since", "1h", "--output", tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert len(data) > 100 and [path.name for path in tmp_path.iterdir()] == [name]
    if name == "x.collapsed":
        counts = dict(line.rsplit(" ", 1) for line in data.decode().splitlines())
        assert counts["postgres;main;execute;hash_join"] == "60"
    piped = run(server, "export", "--since", "1h", "--as", "collapsed")
    assert "nginx;main;serve;new_function 70" in piped.out


def test_import(server, tmp_path):
    (tmp_path / "x.collapsed").write_text("app;main;imported_function 42\n")
    cli = run(
        server, "import", "--kind", "cpu", "--label", "host=build-1", tmp_path / "x.collapsed"
    )
    assert "stored" in cli.err
    answer = rows(server, "top", "--host", "build-1")
    assert "imported_function" in {row["function"] for row in answer["functions"]}
    (tmp_path / "bad").write_bytes(b"\x00\x01\x02")
    bad = run(server, "import", tmp_path / "bad", expect=1)
    assert str(tmp_path / "bad") in bad.err
    assert "no such file" in run(server, "import", tmp_path / "absent", expect=1).err.lower()


@pytest.mark.parametrize(
    "args, words",
    [
        (("aggregate", "--event-type", "foo"), "cpu, offcpu"),
        (("aggregate", "--event-type", "cpu", "--kind", "cpu"), "the same"),
        (("aggregate", "--since", "yesterday"), "--since"),
        (("aggregate", "--since", "1h", "--from", "2h"), "the same"),
        (("aggregate", "--from", "1h", "--to", "2h"), "before"),
        (("aggregate", "--match", 'comm="x'), "quote"),
        (("aggregate", "--label", "x"), "NAME=VALUE"),
        (("aggregate", "--limit", "0"), "--limit"),
        (("aggregate", "--endpoint", "nowhere"), "nowhere"),
        (("export", "--output", "x.txt"), "--output"),
        (("export", "--as", "gif"), "gif"),
        (("import",), "which file"),
        (("diff", "--baseline-from", "1h", "--baseline-to", "2h"), "baseline"),
    ],
)
def test_usage(args, words):
    with Process([CLI, *args]) as cli:
        cli.wait(30)
    assert cli.rc == (1 if "--endpoint" in args else 2) and words in cli.err, cli.err
    assert not cli.out


def test_what_the_server_refuses(server):
    cli = run(server, "top", "--function-regex", "(", expect=1)
    assert "parenthesis" in cli.err
    with Aggregator(token="secret") as guarded:
        assert "token" in run(guarded, "top", expect=1).err.lower()
        env = {"APERTURE_AUTH_TOKEN": "secret"}
        run(guarded, "top", env=env)
        assert "token" in run(guarded, "agents", expect=1).err.lower()
        run(guarded, "agents", env=env)


def test_nobody_there():
    with Process([CLI, "top", "--endpoint", "http://127.0.0.1:1"]) as cli:
        cli.wait(30)
    assert cli.rc == 1 and "connection refused" in cli.err and "aperture-aggregator" in cli.err
    with Process([CLI, "agents", "--http-endpoint", "http://127.0.0.1:1"]) as cli:
        cli.wait(30)
    assert cli.rc == 1 and "--http-endpoint" in cli.err


def test_watch(server):
    with Process([CLI, "top", "--since", "1h", "--watch", "100ms", "--endpoint", f"http://127.0.0.1:{server.port}"],
                 stdout=subprocess.PIPE) as cli:
        seen = 0
        while seen < 3:
            seen += "new_function" in cli.popen.stdout.readline()
        cli.stop(signal.SIGINT)


def test_help_of_each_command():
    with Process([CLI, "--help"]) as cli:
        cli.wait(30)
    commands = [line.split()[0] for line in cli.out.splitlines() if line.startswith("  ")]
    assert commands == ["profile", "top", "aggregate", "diff", "query", "agents", "export", "import"]
    for command in commands:
        with Process([CLI, command, "--help"]) as cli:
            cli.wait(30)
        assert cli.rc == 0 and "Usage:" in cli.out, cli.err


@pytest.mark.skipif("asan" in BUILD.name, reason="chDB cannot be loaded with AddressSanitizer")
def test_make_run(tmp_path):
    """scripts/run brings up store, aggregator and agent; Ctrl-C ends them and keeps everything."""
    script = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "run"
    grpc_port, http_port = support.free_port(), support.free_port()
    env = os.environ | {
        "APERTURE_DATA_DIR": str(tmp_path / "data"),
        "APERTURE_AGGREGATOR_LISTEN": f"127.0.0.1:{grpc_port}",
        "APERTURE_ADMIN_LISTEN": f"127.0.0.1:{http_port}",
    }
    with Process([script, "--push-interval", "1s"], env=env, start_new_session=True) as both:
        endpoint = f"http://127.0.0.1:{grpc_port}"

        def kinds():
            with Process([CLI, "query", "--endpoint", endpoint, "--format", "json"]) as cli:
                cli.wait(60)
            return cli.rc == 0 and all(f"{kind}=" in cli.out for kind in ("cpu", "offcpu", "syscall"))

        support.wait_until(kinds, 120, "batches of all kinds")
        os.killpg(both.popen.pid, signal.SIGINT)
        both.wait(60)
    assert f"http://127.0.0.1:{http_port}" in both.out + both.err and "chdb" in both.out + both.err
    assert "cannot reach" not in both.err, both.err
    assert not list((tmp_path / "data" / "spool").glob("*.batch"))
