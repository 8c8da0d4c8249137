# SPDX-License-Identifier: Apache-2.0 OR MIT
"""tools/check-layers accepts this tree and finds each kind of wrong include in a made-up one."""
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def check(root):
    run = subprocess.run([ROOT / "tools/check-layers", root], capture_output=True, text=True, timeout=60)
    return run.returncode, run.stdout


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_tree():
    assert check(ROOT) == (0, "")


def test_allowed(tmp_path):
    files = {
        "abi/record.h": "#include <linux/types.h>\n",
        "bpf/cpu.bpf.c": '#include "abi/record.h"\n#include "kernel.bpf.h"\n#include <bpf/bpf_helpers.h>\n',
        "src/core/buf.h": "#include <stddef.h>\n",
        "src/model/profile.c": '#include "model/profile.h"\n#include "core/buf.h"\n#include "table.h"\n',
        "src/model/histogram.h": '#include "abi/histogram.h"\n',
        "src/format/json.c": '#include "model/profile.h"\n#include <jansson.h>\n',
        "src/symbol/elf.c": '#include "blazesym.h"\n#include <libelf.h>\n',
        "src/agent/sampler.c": '#include "bpf/cpu.skel.h"\n#include <bpf/libbpf.h>\n#include "abi/record.h"\n',
        "src/cli/main.c": '/* not read:\n#include "agent/agent.h"\n*/\n// #include "agent/agent.h"\n',
        "tests/unit/agent/test_x.c": '#include "cli/cli.h"\n#include "agent/agent.h"\n',
    }
    assert check(tree(tmp_path, files)) == (0, "")


@pytest.mark.parametrize(
    "path, include",
    [
        ("src/core/buf.c", '#include "model/profile.h"'),
        ("src/core/buf.c", '#include "abi/histogram.h"'),
        ("src/format/json.c", '#include "abi/histogram.h"'),
        ("src/model/profile.h", '#include "format/format.h"'),
        ("src/format/svg.c", '#include "symbol/symbol.h"'),
        ("src/symbol/process.c", '#include "agent/agent.h"'),
        ("src/symbol/process.c", '#include "abi/record.h"'),
        ("src/cli/main.c", '#include "agent/agent.h"'),
        ("src/cli/main.c", '#  include   "storage/storage.h"'),
        ("src/storage/memory.c", '#include "query/query.h"'),
        ("src/api/rest.c", '#include "storage/storage.h"'),
        ("src/aggregator/main.c", '#include "agent/agent.h"'),
        ("bpf/cpu.bpf.c", '#include "core/buf.h"'),
        ("bpf/cpu.bpf.c", "#include <stdio.h>"),
        ("abi/record.h", '#include "core/buf.h"'),
        ("gpu/inject.c", '#include "core/buf.h"'),
        ("src/agent/pipeline.c", '#include "blazesym.h"'),
        ("src/agent/pipeline.c", "#include <blazesym.h>"),
        ("src/format/svg.c", "#include <bpf/libbpf.h>"),
        ("src/cli/main.c", '#include "bpf/cpu.skel.h"'),
        ("src/symbol/elf.c", "#include <bpf/libbpf.h>"),
        ("src/query/top.c", "#include <microhttpd.h>"),
        ("src/agent/filter.c", "#include <wasmtime.h>"),
        ("src/agent/filter.c", "#include <wasmtime/config.h>"),
        ("src/wire/batch.c", "#include <grpc/grpc.h>"),
        ("src/core/json.c", "#include <jansson.h>"),
        ("src/agent/x.c", '#include "../core/buf.h"'),
        ("src/agent/x.c", "#include HEADER"),
        ("src/agent/x.c", '#include "nowhere/x.h"'),
        ("src/fresh/x.c", "#include <stdio.h>"),
    ],
)
def test_violation(tmp_path, path, include):
    status, output = check(tree(tmp_path, {path: f"/* comment\n */\n{include}\n"}))
    assert status == 1
    assert output.startswith((f"{path}:3: ", f"{path}: ")), output


def test_headers_in_a_ring(tmp_path):
    files = {"src/core/a.h": '#include "core/b.h"\n', "src/core/b.h": '#include "a.h"\n'}
    status, output = check(tree(tmp_path, files))
    assert status == 1
    assert "include each other" in output
