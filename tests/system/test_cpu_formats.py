# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The same capture in every format says the same."""
import json
import re
import shutil

import pytest

import support
from support import BUILD, Document, Pprof, load

LABEL_ENDS = {"kernel": "_[k]", "jit": "_[j]"}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """One run of two loads with every output."""
    folder = tmp_path_factory.mktemp("formats")
    paths = {end: folder / f"run.{end}" for end in ("json", "svg", "collapsed", "pb.gz", "txt")}
    outputs = [word for path in paths.values() for word in ("--output", path)]
    with load("load-deep", 60, 3), load("load-kernel", 60):
        agent = support.run_agent(*outputs, "--duration", "2s", "--frequency", 499)
    assert agent.rc == 0, agent.err
    return paths, agent


@pytest.mark.sanitizer
def test_totals_are_equal(capture):
    paths, agent = capture
    document, pprof, meta = Document(paths["json"]), Pprof(paths["pb.gz"]), support.svg_meta(paths["svg"])
    samples, value = document.root["samples"], document.root["value"]
    assert samples > 500 and value == samples * document.cpu["period_ns"]
    assert sum(support.collapsed(paths["collapsed"]).values()) == samples
    assert pprof.types() == [("samples", "count"), ("cpu", "nanoseconds")]
    assert (pprof.total(0), pprof.total(1)) == (samples, value)
    assert (meta["total_samples"], meta["total_value"]) == (samples, value)
    assert meta["expected"] == document.expected and meta["delivered"] == document.delivered
    assert f"{samples} samples" in agent.out and f"{samples} samples" in paths["txt"].read_text()
    assert f"expected {document.expected} = delivered {document.delivered} + lost" in agent.out
    for path in paths.values():
        assert f"wrote {path}" in agent.err
        assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.sanitizer
def test_trees_are_equal(capture):
    paths, _ = capture
    document, pprof = Document(paths["json"]), Pprof(paths["pb.gz"])
    lines = {}
    for chain, count in support.chains(document.root):
        labels = (
            re.sub(r"[\x00-\x1f]", "?", node["name"].replace(";", ":"))
            + LABEL_ENDS.get(node["kind"], "_[i]" if node.get("inlined") else "")
            for node in chain
        )
        key = tuple(labels)
        lines[key] = lines.get(key, 0) + count
    assert lines == support.collapsed(paths["collapsed"])
    stacks = {}
    for sample in pprof.profile.sample:
        key = (pprof.labels(sample)["comm"], *reversed(pprof.stack(sample)))
        stacks[key] = stacks.get(key, 0) + sample.value[0]
    expected = {}
    for chain, count in support.chains(document.root):
        key = tuple(node["name"] for node in chain)
        expected[key] = expected.get(key, 0) + count
    assert stacks == expected


@pytest.mark.sanitizer
def test_pprof_is_sound(capture, tool):
    paths, _ = capture
    document, pprof = Document(paths["json"]), Pprof(paths["pb.gz"])
    p = pprof.profile
    assert p.period == document.cpu["period_ns"]
    assert (pprof.strings[p.period_type.type], pprof.strings[p.period_type.unit]) == ("cpu", "nanoseconds")
    assert p.time_nanos == document.cpu["start_ns"] and p.duration_nanos == document.cpu["duration_ns"]
    assert any(f"expected {document.expected}" in text.replace("=", " ") for text in pprof.comments())
    for name in ("load-deep", "load-kernel"):
        path = str(BUILD / "tests" / name)
        notes = tool("readelf", "-n", path).stdout
        assert pprof.build_ids()[path] == re.search(r"Build ID: ([0-9a-f]+)", notes).group(1)
    inlined = [one for one in p.location if len(one.line) > 1]
    names = {tuple(pprof.strings[pprof.functions[line.function_id].name] for line in one.line) for one in inlined}
    assert ("inlined_spin", "demo::spin") in names
    for one in inlined:
        assert pprof.mappings[one.mapping_id].has_inline_frames
    deep = pprof.mappings[next(i for i, m in pprof.mappings.items() if pprof.strings[m.filename].endswith("load-deep"))]
    for one in p.location:
        if one.mapping_id == deep.id:
            assert deep.memory_start <= one.address < deep.memory_limit


def test_pprof_opens_in_pprof(capture, tool):
    paths, _ = capture
    program = ("pprof",) if shutil.which("pprof") else ("go", "tool", "pprof")
    options = ("-top", "-nodecount=100000", "-symbolize=none", "-sample_index=samples")
    shown = tool(*program, *options, paths["pb.gz"], timeout=240).stdout  # go may have to build it first
    assert re.search(rf"\b{Document(paths['json']).delivered} total", shown), shown
    for name in ("inlined_spin (inline)", "demo::spin", "outer::Worker::run", "read_zeros"):
        assert name in shown


@pytest.mark.sanitizer
@pytest.mark.parametrize("name", ("json", "svg", "collapsed", "pprof", "text"))
def test_format_option_and_standard_output(name):
    with load("load-deep", 60, 0) as target:
        with open("/dev/null", "rb") as nothing:
            agent = support.run_agent(
                "--pid", target.pid, "-d", "400ms", "-F", 199, "--output", "-", "--format", name,
                **({"stdout": open("/dev/null", "wb")} if name == "pprof" else {}), stdin=nothing,
            )
    assert agent.rc == 0, agent.err
    assert "expected" in agent.err  # the account goes to standard error then
    if name == "json":
        assert json.loads(agent.out)["schema"] == 1
    if name == "svg":
        assert agent.out.startswith(("<?xml", "<svg")) and agent.out.rstrip().endswith("</svg>")
    if name == "collapsed":
        assert re.fullmatch(r"(load-deep;.* \d+\n)+", agent.out)
    if name == "text":
        assert "inlined_spin" in agent.out


def test_table(out):
    with load("load-deep", 60, 0) as target:
        agent = support.run_agent("--pid", target.pid, "-d", "400ms", "-F", 199, "--top", 1)
    assert agent.rc == 0, agent.err
    rows = [line for line in agent.out.splitlines() if "load-deep" in line]
    assert len(rows) == 1 and "inlined_spin" in rows[0]
