# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the system tests share: starting the agent and its targets, and reading profiles."""
import collections
import contextlib
import ctypes
import gzip
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields

BUILD = pathlib.Path(os.environ.get("APERTURE_BUILD_DIR", "build")).resolve()
AGENT = BUILD / "aperture-agent"
CLI = BUILD / "aperture-cli"
PR_SET_PDEATHSIG = 1
SAMPLE_LOSSES = ("ring_full", "missed", "table_full", "bad_record", "no_scratch", "map_full")
# What the document sums over its profiles, besides losses.
ACCOUNT_SUMS = ("expected", "delivered", "idle", "out_of_scope")
USAGE = 2
FAILED = 1
NODE_KINDS = ("mark", "process", "native", "kernel", "jit", "interpreted", "unknown")
CRASH = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:|Segmentation|Assertion")

sys.setrecursionlimit(10000)  # a document nests as deep as its stacks
libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, seconds=20, what="condition"):
    """The first true value of condition()."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.01)


def free_port():
    """A TCP port of the loopback that nobody listened on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def read(path):
    """Text of a file of /proc or /sys; empty when it is gone."""
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def children(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task")
    with contextlib.suppress(OSError):
        return [int(child) for task in tasks.iterdir() for child in read(task / "children").split()]
    return []


def descendant(pid, comm):
    """Pid of the first process below `pid` whose name is `comm`, waited for."""

    def look():
        todo = [pid]
        while todo:
            one = todo.pop()
            if read(f"/proc/{one}/comm").strip() == comm:
                return one
            todo += children(one)
        return None

    return wait_until(look, what=f"process {comm}")


def cpu_seconds(pid):
    """CPU time of a living process, with all its threads."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


class Process:
    """A started program; stopped by its pid when the test is done with it."""

    def __init__(self, command, nice=0, **options):
        def prepare():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job would have it ignored
            die_with_parent()
            if nice:
                os.nice(nice)

        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        self.popen = subprocess.Popen([str(word) for word in command], preexec_fn=prepare, text=True, **options)
        self.pid = self.popen.pid
        self.out = self.err = ""
        self.rc = None

    def wait(self, timeout=90):
        self.out, self.err = self.popen.communicate(timeout=timeout)
        self.rc = self.popen.returncode
        return self

    def stop(self, signum=signal.SIGTERM, timeout=90):
        self.popen.send_signal(signum)
        return self.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.popen.poll() is None:
            self.popen.kill()
        with contextlib.suppress(ValueError):  # read already
            self.popen.communicate(timeout=30)


class Agent(Process):
    """The agent while it records; returns from the constructor when recording has begun."""

    def __init__(self, *args, program=(AGENT,), mode="cpu", **options):
        ready, told = os.pipe()
        with open(ready, "rb") as pipe:
            try:
                super().__init__([*program, "--mode", mode, "--ready-fd", told, *args], pass_fds=(told,), **options)
            finally:
                os.close(told)
            began = pipe.read(1)
        if not began:
            self.wait()
            raise AssertionError(f"the agent ended with {self.rc}: {self.err}")


def load(name, *args, wrap=(), cwd=None, **options):
    """Starts build/tests/NAME (or the program at that path), under the command `wrap`."""
    program = name if os.path.isabs(str(name)) else BUILD / "tests" / name
    return Process([*wrap, program, *args], cwd=cwd, **options)


class Held(Process):
    """A load of build/tests that waits at its gate until go()."""

    def __init__(self, name, *args, **options):
        super().__init__([BUILD / "tests" / name, *args], stdin=subprocess.PIPE, **options)

    def go(self):
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def line(self):
        """The next line of its output, for loads that end with a signal."""
        return json.loads(self.popen.stdout.readline())


def record(mode, out, name, *words, args=(), outputs=(), timeout=120, **options):
    """Records a load from its gate to its end, with --pid: (what the agent wrote, what the load says)."""
    more = [word for path in outputs for word in ("--output", path)]
    with Held(name, *words) as target:
        with Agent("--pid", target.pid, "--quiet", "--output", out, *more, *args, mode=mode, **options) as agent:
            target.go()
            target.wait(timeout)
            assert target.rc == 0, target.err
            agent.wait(60)  # ends with its target
    assert agent.rc == 0 and not CRASH.search(agent.err), agent.err
    capture = Capture(out)
    capture.agent_messages = agent.err
    return capture, json.loads(target.out)


def run_agent(*args, program=(AGENT,), mode="cpu", timeout=90, **options):
    """The agent from start to end."""
    with Process([*program, "--mode", mode, *args], **options) as agent:
        agent.wait(timeout)
    assert not CRASH.search(agent.err), agent.err
    return agent


def profile(path, *args, expect=0, **options):
    """Runs the agent with a JSON output at `path` and returns the document."""
    agent = run_agent("--quiet", "--output", path, *args, **options)
    assert agent.rc == expect, agent.err
    document = Document(path)
    document.agent_messages = agent.err
    return document


class Capture:
    """What the agent wrote as JSON, profile by profile, with everything that must hold in any checked."""

    def __init__(self, path):
        self.data = json.loads(pathlib.Path(path).read_text())
        self.kinds = {one["kind"]: one for one in self.data["profiles"]}
        assert self.data["schema"] == 1 and len(self.kinds) == len(self.data["profiles"])
        for one in self.data["profiles"]:
            self.check(one)
        accounts = [one["account"] for one in self.data["profiles"]]
        for key in ACCOUNT_SUMS:
            assert self.data[key] == sum(account[key] for account in accounts), key
        for reason, count in self.data["losses"].items():
            assert count == sum(account["losses"].get(reason, 0) for account in accounts), reason

    def check(self, one):
        account, root = one["account"], one["root"]
        lost = sum(account["losses"].get(reason, 0) for reason in SAMPLE_LOSSES)
        assert account["expected"] == account["delivered"] + lost, account
        assert one["unit"] == "nanoseconds" and one["duration_ns"] > 0
        assert root["samples"] == one["samples"]
        for node in walk(root):
            assert node["value"] == node["self"] + sum(child["value"] for child in node["children"])
            assert node["samples"] >= sum(child["samples"] for child in node["children"])
            assert node["kind"] in NODE_KINDS
        for row in one.get("syscalls", ()):
            histogram_holds(row, row["count"])
            assert row["failed"] == sum(row["errors"].values()) <= row["count"]
        for row in one.get("locks", ()):
            histogram_holds(row, row["waits"])
            for pair in row["pairs"]:
                assert pair["waiter"] < len(row["waiters"]) and pair["waker"] < len(row["wakers"])

    def __getitem__(self, kind):
        return self.kinds[kind]

    def thread(self, kind, name):
        """The tree below the threads of that name, over all their processes."""
        found = [node for node in self.kinds[kind]["root"]["children"] if node["name"] == name]
        return {
            **{"name": name, "kind": "process", "self": 0},
            **{key: sum(node[key] for node in found) for key in ("value", "samples")},
            "children": [child for node in found for child in node["children"]],
        }

    def calls(self, key=None):
        """Rows of system calls added up by name: {name: {"count", "failed", "errors", "total_ns", ...}}."""
        sums = {}
        for row in self.kinds["syscall"]["syscalls"]:
            if key and not key(row):
                continue
            one = sums.setdefault(
                row["name"], {"errors": collections.Counter(), "histogram": collections.Counter(), "max_ns": 0}
            )
            for field in ("count", "failed", "total_ns", "in_flight"):
                one[field] = one.get(field, 0) + row[field]
            one["errors"].update(row["errors"])
            one["histogram"].update({bucket["le_ns"]: bucket["count"] for bucket in row["histogram"]})
            one["max_ns"] = max(one["max_ns"], row["max_ns"])
        return sums


def histogram_holds(row, count):
    """All calls are in the histogram, and its sums and quantiles agree with the row's."""
    buckets = row["histogram"]
    limits = [bucket["le_ns"] for bucket in buckets]
    assert limits == sorted(set(limits)) and sum(bucket["count"] for bucket in buckets) == count, row
    assert row["p50_ns"] <= row["p95_ns"] <= row["p99_ns"] <= row["max_ns"] <= row["total_ns"], row
    if count:
        # a bucket is at most a quarter of its lower bound wide
        most = sum(bucket["le_ns"] * bucket["count"] for bucket in buckets)
        assert 0.79 * most - 4 * count <= row["total_ns"] <= most, row
        assert limits[-1] * 0.79 - 4 <= row["max_ns"] <= limits[-1], row


class Document:
    """A CPU profile as JSON, with its account checked."""

    def __init__(self, path):
        self.data = json.loads(pathlib.Path(path).read_text())
        self.cpu = self.data["profiles"][0]
        self.root = self.cpu["root"]
        self.losses = self.data["losses"]
        self.expected, self.delivered = self.data["expected"], self.data["delivered"]
        self.unresolved = {(row["module"], row["reason"]): row for row in self.data["unresolved"]}
        self.check()

    def check(self):
        assert self.data["schema"] == 1
        assert self.expected == self.delivered + sum(self.losses[reason] for reason in SAMPLE_LOSSES)
        assert self.root["samples"] == self.cpu["samples"] == self.delivered
        for node in walk(self.root):
            below = node["children"]
            assert node["value"] == node["self"] + sum(child["value"] for child in below)
            assert node["samples"] >= sum(child["samples"] for child in below)
            assert node["kind"] in NODE_KINDS

    def comms(self):
        return {node["name"]: node["samples"] for node in self.root["children"]}

    def comm(self, name):
        """The subtree of the threads of that name; an empty one when there is none."""
        for node in self.root["children"]:
            if node["name"] == name:
                return node
        return {"name": name, "kind": "process", "value": 0, "self": 0, "samples": 0, "children": []}

    def reasons(self, module_end=""):
        """Unresolved samples by reason, of modules whose path ends so."""
        found = collections.Counter()
        for (module, reason), row in self.unresolved.items():
            if module.endswith(module_end):
                found[reason] += row["samples"]
        return found


def walk(node):
    todo = [node]
    while todo:
        one = todo.pop()
        yield one
        todo += one["children"]


def named(node, name):
    """Samples of stacks that contain the function, each counted once."""
    total, todo = 0, [node]
    while todo:
        one = todo.pop()
        if one["name"] == name:
            total += one["samples"]
        else:
            todo += one["children"]
    return total


def value_of(node, name):
    """Likewise the value: nanoseconds."""
    total, todo = 0, [node]
    while todo:
        one = todo.pop()
        if one["name"] == name:
            total += one["value"]
        else:
            todo += one["children"]
    return total


def near(ours, theirs, share=0.02):
    """Ours is theirs but for that share; assert it so that both are shown."""
    return abs(ours - theirs) <= share * theirs


def bpf_ids(pid, kind):
    """Numbers of the BPF objects ("prog", "map", "link") that the process has open."""
    found = set()
    for info in pathlib.Path(f"/proc/{pid}/fdinfo").glob("*"):
        found |= {int(one) for one in re.findall(rf"^{kind}_id:\s+(\d+)", read(info), re.M)}
    return found


def frames(node, name):
    return [one for one in walk(node) if one["name"] == name]


def chains(node, above=()):
    """(chain of nodes from the root, samples that end there) of every stack; the root is left out."""
    todo = [(child, above) for child in node["children"]]
    while todo:
        one, before = todo.pop()
        chain = (*before, one)
        own = one["samples"] - sum(child["samples"] for child in one["children"])
        if own:
            yield chain, own
        todo += [(child, chain) for child in one["children"]]


def collapsed(path):
    """{(label, ...): count}; every line must parse and be unique."""
    stacks = {}
    for line in pathlib.Path(path).read_text().splitlines():
        stack, count = line.rsplit(" ", 1)
        key = tuple(stack.split(";"))
        assert key not in stacks and all(key)
        stacks[key] = int(count)
    return stacks


def svg_meta(path):
    root = ElementTree.parse(path).getroot()
    return json.loads(root.find("{http://www.w3.org/2000/svg}metadata[@id='ap-meta']").text)


# profile.proto of pprof: (name, number, type), "*" = repeated.
PPROF = {
    "Profile": "sample_type 1 ValueType*, sample 2 Sample*, mapping 3 Mapping*, location 4 Location*, "
    "function 5 Function*, string_table 6 string*, drop_frames 7 int64, keep_frames 8 int64, time_nanos 9 int64, "
    "duration_nanos 10 int64, period_type 11 ValueType, period 12 int64, comment 13 int64*, "
    "default_sample_type 14 int64",
    "ValueType": "type 1 int64, unit 2 int64",
    "Sample": "location_id 1 uint64*, value 2 int64*, label 3 Label*",
    "Label": "key 1 int64, str 2 int64, num 3 int64, num_unit 4 int64",
    "Mapping": "id 1 uint64, memory_start 2 uint64, memory_limit 3 uint64, file_offset 4 uint64, filename 5 int64, "
    "build_id 6 int64, has_functions 7 bool, has_filenames 8 bool, has_line_numbers 9 bool, has_inline_frames 10 bool",
    "Location": "id 1 uint64, mapping_id 2 uint64, address 3 uint64, line 4 Line*, is_folded 5 bool",
    "Line": "function_id 1 uint64, line 2 int64",
    "Function": "id 1 uint64, name 2 int64, system_name 3 int64, filename 4 int64, start_line 5 int64",
}


def pprof_class():
    field_types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="perftools.profiles", syntax="proto3")
    for name, fields in PPROF.items():
        message = file.message_type.add(name=name)
        for text in fields.split(", "):
            field, number, kind = text.split()
            one = message.field.add(name=field, number=int(number), label=3 if kind.endswith("*") else 1)
            kind = kind.rstrip("*")
            if kind in PPROF:
                one.type, one.type_name = field_types.TYPE_MESSAGE, f".perftools.profiles.{kind}"
            else:
                one.type = getattr(field_types, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("perftools.profiles.Profile"))


class Pprof:
    """A profile as pprof reads it, with everything that must hold in any checked."""

    def __init__(self, path):
        raw = pathlib.Path(path).read_bytes()
        assert raw[:2] == b"\x1f\x8b"
        self.profile = pprof_class().FromString(gzip.decompress(raw))
        self.strings = self.profile.string_table
        self.mappings = {one.id: one for one in self.profile.mapping}
        self.locations = {one.id: one for one in self.profile.location}
        self.functions = {one.id: one for one in self.profile.function}
        self.check()

    def check(self):
        p = self.profile
        assert not unknown_fields.UnknownFieldSet(p)
        assert self.strings[0] == ""
        for table, items in ((self.mappings, p.mapping), (self.locations, p.location), (self.functions, p.function)):
            assert len(table) == len(items) and 0 not in table
        for location in p.location:
            assert location.mapping_id == 0 or location.mapping_id in self.mappings
            for line in location.line:
                assert line.function_id in self.functions
        for sample in p.sample:
            assert len(sample.value) == len(p.sample_type)
            assert sample.location_id and all(one in self.locations for one in sample.location_id)
        indices = [one.filename for one in p.mapping] + [one.build_id for one in p.mapping] + list(p.comment)
        indices += [i for one in p.function for i in (one.name, one.system_name, one.filename)]
        indices += [i for sample in p.sample for label in sample.label for i in (label.key, label.str)]
        indices += [i for one in p.sample_type for i in (one.type, one.unit)]
        indices += [p.period_type.type, p.period_type.unit, p.default_sample_type]
        assert all(0 <= i < len(self.strings) for i in indices)
        for mapping in p.mapping:
            assert mapping.memory_start <= mapping.memory_limit

    def types(self):
        return [(self.strings[one.type], self.strings[one.unit]) for one in self.profile.sample_type]

    def total(self, index):
        return sum(sample.value[index] for sample in self.profile.sample)

    def labels(self, sample):
        return {self.strings[one.key]: self.strings[one.str] if one.str else one.num for one in sample.label}

    def stack(self, sample):
        """Function names, innermost first."""
        lines = (line for one in sample.location_id for line in self.locations[one].line)
        return [self.strings[self.functions[line.function_id].name] for line in lines]

    def comments(self):
        return [self.strings[i] for i in self.profile.comment]

    def build_ids(self):
        return {self.strings[one.filename]: self.strings[one.build_id] for one in self.profile.mapping}


def share_error(share, samples):
    """Four standard deviations of a share found by so many samples."""
    return 4 * (share * (1 - share) / max(samples, 1)) ** 0.5
