# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The system tests run the real agent: they need root and a build, but for those that only read or draw."""
import os
import shutil
import subprocess

import pytest

import support


def pytest_collection_modifyitems(items):
    reason = None
    if os.geteuid() != 0:
        reason = "needs root"
    elif not support.AGENT.exists():
        reason = f"needs a build: {support.AGENT} is missing"
    for item in items:
        if reason and item.path.name not in ("test_svg_viewer.py", "test_wire.py"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def out(tmp_path):
    """Where a test's profile goes."""
    return tmp_path / "profile.json"


@pytest.fixture
def cgroup():
    """Makes cgroups (v2) by name; moves what is left in them back and removes them."""
    mounts = [line.split() for line in support.read("/proc/mounts").splitlines()]
    roots = [words[1] for words in mounts if words[2] == "cgroup2"]
    if not roots:
        pytest.skip("no cgroup v2 mount")
    made = []

    def make(name):
        path = os.path.join(roots[0], name)
        os.mkdir(path)
        made.append(path)
        return path

    yield make
    for path in reversed(made):
        for pid in support.read(f"{path}/cgroup.procs").split():
            try:
                with open(f"{roots[0]}/cgroup.procs", "w") as procs:
                    procs.write(pid)
            except OSError:
                pass  # ended meanwhile
        support.wait_until(lambda p=path: not support.read(f"{p}/cgroup.procs"), what="an empty cgroup")
        os.rmdir(path)


@pytest.fixture
def sysctl():
    """Sets kernel parameters for one test."""
    before = {}

    def set_value(name, value):
        path = "/proc/sys/" + name.replace(".", "/")
        before.setdefault(path, support.read(path).strip())
        try:
            with open(path, "w") as file:
                file.write(str(value))
        except OSError as error:
            pytest.skip(f"cannot set {name}: {error}")

    yield set_value
    for path, value in before.items():
        with open(path, "w") as file:
            file.write(value)


@pytest.fixture
def tool():
    """Runs a program that not every machine has; some lie where an ordinary user's PATH does not lead."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

    def run(*command, **options):
        program = shutil.which(command[0], path=path)
        if not program:
            pytest.skip(f"needs {command[0]}")
        command = (program, *command[1:])
        options = {"check": True, "timeout": 60, **options}
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)

    return run
