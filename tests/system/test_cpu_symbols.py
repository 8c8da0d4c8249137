# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Names of frames: inlined, demangled, deep, stripped, compiled at run time, and files that are out to harm."""
import contextlib
import os
import pathlib
import random
import re
import shutil

import pytest

import support
from support import BUILD, Agent, Document, load

DEEP_ORDER = ["main", "recurse", "outer::Worker::run(int)", "core::fmt::write", "demo::spin", "inlined_spin"]
FRAMES_MAX = 512
PAGE = 4096
SOURCE = pathlib.Path(__file__).parent / "helpers" / "load_deep.c"


def record(out, target, duration="1s", frequency=199):
    return support.profile(out, "--pid", target.pid, "--duration", duration, "--frequency", frequency)


def test_names_of_a_stack(out):
    with load("load-deep", 60, 3) as target:
        document = record(out, target)
    order = DEEP_ORDER[:2] + ["recurse"] * 3 + DEEP_ORDER[2:]
    complete = 0
    for chain, count in support.chains(document.root):
        names = [node["name"] for node in chain if node["kind"] == "native"]
        if "inlined_spin" in names and "main" in names:
            assert names[names.index("main") :] == order
            complete += count
    assert complete > 0.97 * document.delivered > 0
    text = SOURCE.read_text().splitlines()
    first = next(i for i, line in enumerate(text, 1) if "inlined_spin(unsigned long x)" in line)
    last = next(i for i, line in enumerate(text, 1) if i > first and line == "}")
    for node in support.frames(document.root, "inlined_spin"):
        assert node["inlined"] and node["file"].endswith("helpers/load_deep.c")
        assert first <= node.get("line", first) <= last
        assert node["module"] == str(BUILD / "tests" / "load-deep")
    for node in support.frames(document.root, "demo::spin"):
        assert not node.get("inlined")
    reasons = document.reasons("load-deep")
    assert not reasons


def test_deeper_than_the_kernel_walks(out):
    """kernel.perf_event_max_stack is 127 by default; the outer end must be there all the same."""
    with load("load-deep", 60, 300) as target:
        document = record(out, target)
    complete = 0
    for chain, count in support.chains(document.root):
        names = [node["name"] for node in chain]
        if "inlined_spin" not in names:
            continue
        assert "[truncated]" not in names
        assert names.count("recurse") == 301
        assert names.index("main") < names.index("recurse")
        complete += count
    assert complete > 0.97 * document.delivered > 0


@pytest.mark.sanitizer
def test_too_deep_is_cut_and_marked(out):
    with load("load-deep", 60, 10000) as target:
        document = record(out, target)
    cut = 0
    for chain, count in support.chains(document.root):
        names = [node["name"] for node in chain]
        if "inlined_spin" in names:
            assert names[1] == "[truncated]" and chain[1]["kind"] == "mark" and "main" not in names
            assert len(names) - 2 == FRAMES_MAX
            cut += count
    assert cut > 0.97 * document.delivered > 0


def test_stripped_binary(out, tmp_path, tool):
    program = tmp_path / "load-bare"
    tool("strip", "-o", program, BUILD / "tests" / "load-deep")
    with load(program, 60, 3) as target:
        document = record(out, target)
    tree = document.comm("load-bare")
    own = [node for node in support.walk(tree) if node.get("module") == str(program)]
    assert own and all(re.fullmatch(r"load-bare\+0x[0-9a-f]+", node["name"]) for node in own)
    assert all(node["kind"] == "unknown" for node in own)
    # main, four times recurse and three below it: nothing is left out
    deepest = max(
        sum(1 for node in chain if node.get("module") == str(program)) for chain, _ in support.chains(tree)
    )
    assert deepest == 8
    # offsets are those of the file: where its program headers place code
    offsets = {int(node["name"].split("+")[1], 16) for node in own}
    assert max(offsets) < program.stat().st_size
    row = document.unresolved[str(program), "stripped"]
    assert row["samples"] >= 0.97 * 8 * document.delivered and row["frames"] >= 7 and "symbols" in row["help"]
    assert document.data["frames_unresolved"] >= row["samples"]


def test_vdso(out):
    with load("load-vdso", 60) as target:
        document = record(out, target)
    inside = [node for node in support.walk(document.root) if node.get("module") == "[vdso]"]
    if not inside:
        pytest.skip("this machine's clock is read by system calls")
    assert sum(node["self"] for node in inside) > 0.5 * document.root["value"]
    assert any("clock_gettime" in node["name"] for node in inside)
    assert all(node["kind"] == "native" for node in inside)


def test_jit_names_come_from_its_map(out):
    with load("load-code", "jit", 60) as target:
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: pathlib.Path(f"/tmp/perf-{target.pid}.map").unlink(missing_ok=True))
            support.wait_until(lambda: support.read(f"/tmp/perf-{target.pid}.map").endswith("function\n"))
            document = record(out, target)
    code = support.frames(document.root, "jit_compiled_function")
    assert code and all(node["kind"] == "jit" for node in code)
    assert sum(node["samples"] for node in code) > 0.9 * document.delivered
    assert document.reasons()["jit"] == 0


def test_jit_without_a_map(out):
    with load("load-code", "unnamed", 60) as target:
        document = record(out, target)
    assert document.reasons()["jit"] > 0.9 * document.delivered > 0
    assert all("perf" in row["help"] for (_, reason), row in document.unresolved.items() if reason == "jit")
    assert all(n["kind"] == "unknown" for n in support.walk(document.root) if n["name"].startswith("[anon]"))


def test_jit_map_in_its_own_mount_namespace(out):
    """Its /tmp, and its pid in the file's name, are its own."""
    script = (
        f"exec 3<{BUILD}/tests/load-code && mount -t tmpfs none /tmp && "
        "cat <&3 >/tmp/load-code && chmod 755 /tmp/load-code && exec /tmp/load-code jit 60"
    )
    wrap = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c")
    with load("/usr/bin/env", *wrap, script) as target:
        pid = support.descendant(target.pid, "load-code")
        support.wait_until(lambda: os.path.exists(f"/proc/{pid}/root/tmp/perf-1.map"))
        document = support.profile(out, "--pid", pid, "--duration", "1s", "--frequency", 199)
    code = support.frames(document.root, "jit_compiled_function")
    assert code and all(node["kind"] == "jit" for node in code)
    assert sum(node["samples"] for node in code) > 0.9 * document.delivered


def test_jit_map_of_a_process_that_ended(out):
    """The map is read when the process ends: it may remove the file."""
    with load("load-code", "jit", 2) as target:
        agent = support.run_agent("--quiet", "--pid", target.pid, "--frequency", 199, "--output", out)
        assert agent.rc == 0, agent.err
    pathlib.Path(f"/tmp/perf-{target.pid}.map").unlink(missing_ok=True)
    assert support.named(Document(out).root, "jit_compiled_function") > 0


def hostile_files():
    """(name, content of the file's first page and more) of files that hold code and lie about the rest."""
    real = pathlib.Path(os.path.realpath("/bin/ls")).read_bytes()
    header = bytearray(real[:PAGE])

    def patched(*changes):
        data = bytearray(header)
        for offset, value, size in changes:
            data[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        return bytes(data)

    yield "sections-beyond-end", patched((0x28, 1 << 40, 8), (0x3C, 0xFFF0, 2))
    yield "sections-overflow", patched((0x28, -8, 8), (0x3C, 0xFFFF, 2), (0x3E, 0xFFFE, 2))
    yield "cut-off", real[:PAGE]
    yield "program-headers-garbage", bytes(header[:64]) + random.Random(7).randbytes(PAGE - 64)
    yield "program-headers-beyond-end", patched((0x20, 1 << 62, 8), (0x38, 0xFFFF, 2))
    yield "no-program-headers", patched((0x38, 0, 2))
    yield "wrong-class", patched((4, 1, 1))
    yield "wrong-endianness", patched((5, 2, 1))
    yield "header-only", bytes(header[:64])
    yield "magic-only", b"\x7fELF"
    yield "no-elf", b"#!/bin/sh\n" * 10


HOSTILE = dict(hostile_files())


def run_hostile(out, tmp_path, files, after=lambda path: None):
    """Runs code from each file at once and profiles them all; the documents' reasons by file."""
    with contextlib.ExitStack() as stack:
        targets = []
        for name, data in files.items():
            path = tmp_path / name
            path.write_bytes(data)
            target = stack.enter_context(load("load-code", path, 120))
            targets += ["--pid", target.pid]
            support.wait_until(
                lambda t=target, p=path: str(p) in support.read(f"/proc/{t.pid}/maps") or t.popen.poll() is not None
            )
            assert target.popen.poll() is None
            after(path)
        document = support.profile(out, *targets, "--duration", "2s", "--frequency", 499)
        for target in targets[1::2]:
            assert support.read(f"/proc/{target}/stat")
    return document


def code_of(document, name):
    """Samples in a hostile file: by file name, or as anonymous memory."""
    return sum(n["samples"] for n in support.walk(document.root) if n["name"].startswith(f"{name}+0x"))


@pytest.mark.sanitizer
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_elf(out, tmp_path, name):
    document = run_hostile(out, tmp_path, {name: HOSTILE[name]})
    assert document.delivered > 50
    reasons = document.reasons(str(tmp_path / name)) + document.reasons("[anon]")
    # a header that is sound but for what it lacks may be found to be stripped
    assert reasons["bad_file"] + reasons["jit"] + reasons["stripped"] > 0.9 * document.delivered, document.unresolved
    if name in ("no-elf",):
        assert reasons["jit"] > 0
    if name in ("sections-overflow", "program-headers-beyond-end", "magic-only"):
        assert reasons["bad_file"] > 0, document.unresolved


@pytest.mark.sanitizer
def test_mutated_elf(out, tmp_path):
    real = pathlib.Path(os.path.realpath("/bin/ls")).read_bytes()
    files = {}
    for seed in range(20):
        chance = random.Random(seed)
        data = bytearray(real)
        at = int.from_bytes(real[0x28:0x30], "little")  # section headers
        for _ in range(chance.choice((2, 10, 60))):
            where = chance.choice((range(4, 64), range(64, 1024), range(at, len(data))))
            data[chance.choice(where)] = chance.randrange(256)
        files[f"mutated-{seed}"] = bytes(data)
    document = run_hostile(out, tmp_path, files)
    assert document.delivered > 100
    # every one is there, whatever its frames are called
    assert support.named(document.comm("load-code"), "main") > 0.8 * document.delivered


@pytest.mark.sanitizer
def test_elf_cut_off_after_it_was_mapped(out, tmp_path):
    real = pathlib.Path(os.path.realpath("/bin/ls")).read_bytes()
    document = run_hostile(out, tmp_path, {"shrunk": real}, lambda path: os.truncate(path, PAGE + 104))
    reasons = document.reasons(str(tmp_path / "shrunk")) + document.reasons("[anon]")
    assert reasons["bad_file"] + reasons["jit"] + reasons["stripped"] > 0.9 * document.delivered


@pytest.mark.sanitizer
def test_elf_rewritten_while_it_is_profiled(out, tmp_path):
    """The file changes below the symbolizer between the mapping and the naming."""
    path = tmp_path / "changing"
    shutil.copy(BUILD / "tests" / "load-deep", path)
    with load("load-code", path, 60) as target:
        support.wait_until(lambda: str(path) in support.read(f"/proc/{target.pid}/maps"))
        with Agent("--pid", target.pid, "--frequency", 199, "--quiet", "--output", out) as agent:
            support.wait_until(lambda: support.cpu_seconds(target.pid) > 0.5)
            with open(path, "r+b") as file:
                size = os.fstat(file.fileno()).st_size
                file.truncate(PAGE + 104)
                file.seek(64)
                file.write(random.Random(3).randbytes(4000))
                file.truncate(size)
            agent.stop()
    assert agent.rc == 0 and not support.CRASH.search(agent.err), agent.err
    assert Document(out).delivered > 0


def test_symbolizer_has_no_power():
    """Whoever breaks into it through a file of a profiled program is nobody."""
    with Agent("--quiet", "-F", 99) as agent:
        (worker,) = support.children(agent.pid)
        status = dict(re.findall(r"^(\w+):[ \t]*(.*)$", support.read(f"/proc/{worker}/status"), re.M))
        agent.stop()
    assert status["Name"] == "aperture-symbol"
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"} and not status["Groups"].strip()
    dac_read_search, syslog = 2, 34
    assert int(status["CapEff"], 16) & ~(1 << dac_read_search | 1 << syslog) == 0
    assert status["NoNewPrivs"] == "1"


def test_executable_that_only_its_owner_may_read(out, tmp_path):
    program = tmp_path / "load-private"
    shutil.copy(BUILD / "tests" / "load-deep", program)
    os.chmod(program, 0o700)
    with load(program, 60, 0) as target:
        document = record(out, target)
    for name in DEEP_ORDER:
        assert support.named(document.root, name) > 0.95 * document.delivered > 0, name
