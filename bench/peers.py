# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The loads, and the profilers that are measured beside each other."""
import ctypes
import json
import os
import pathlib
import platform
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

BUILD = pathlib.Path(os.environ.get("APERTURE_BUILD_DIR", "build")).resolve()
STARTUP_S, SETTLE_S, STOP_S = 20, 0.2, 60
PR_SET_PDEATHSIG = 1
BPF_PROG_TYPE_PERF_EVENT = 7

libc = ctypes.CDLL(None, use_errno=True)


def spawn(command, **options):
    """A process that ends with this one."""
    return subprocess.Popen(
        command,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        cwd=options.pop("cwd", "/tmp"),
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, **options},
    )


def end(process, sig=signal.SIGINT):
    """Ends one process, by its id, and returns what it wrote to standard error."""
    process.send_signal(sig)
    try:
        return process.communicate(timeout=STOP_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def cpu_ns(pid):
    """CPU time of all threads of a living process: the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def memory(pid):
    """Peak resident bytes of a process and its children, and bytes of perf rings (kernel memory, not resident)."""
    peak = rings = 0
    for task in [pid, *map(int, read(f"/proc/{pid}/task/{pid}/children").split())]:
        found = re.search(r"VmHWM:\s+(\d+)", read(f"/proc/{task}/status"))
        peak += int(found[1]) * 1024 if found else 0
    text = read(f"/proc/{pid}/smaps")
    for size, resident in re.findall(r"anon_inode:\[perf_event\]\nSize:\s+(\d+) kB(?:.*\n)*?Rss:\s+(\d+) kB", text):
        rings += (int(size) - int(resident)) * 1024
    return peak, rings


def bpf(pid):
    """BPF objects that a process holds: run time and runs of its sampling programs since the statistics were switched
    on, and the bytes of programs and maps."""
    result = {"ns": 0, "runs": 0, "bytes": 0}
    seen = set()
    for info in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        fields = dict(line.split(":", 1) for line in read(info).splitlines() if ":" in line)
        # links name their program too
        key = fields.get("prog_id"), fields.get("map_id")
        if "memlock" not in fields or key in seen:
            continue
        seen.add(key)
        result["bytes"] += int(fields["memlock"])
        if int(fields.get("prog_type", -1)) == BPF_PROG_TYPE_PERF_EVENT:
            result["ns"] += int(fields["run_time_ns"])
            result["runs"] += int(fields["run_cnt"])
    return result


class Load:
    """A load in the background; read() says how much it has done since it started."""

    def __init__(self, name):
        self.process = spawn([BUILD / "bench" / f"load-{name}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return tuple(map(int, self.process.stdout.readline().split()))

    def __enter__(self):
        time.sleep(0.5)
        return self

    def __exit__(self, *args):
        end(self.process, signal.SIGKILL)


class Profiler:
    """Runs from start() to stop(); after start() it records."""

    name = ""

    def start(self, hz):
        raise NotImplementedError

    def stop(self):
        raise NotImplementedError

    def cpu_ns(self):
        return cpu_ns(self.process.pid)


    def start_patiently(self, hz):
        """start(), tried again: a test that runs elsewhere may have a sysctl in its hands."""
        for attempt in range(3):
            try:
                return self.start(hz)
            except (RuntimeError, OSError):
                if attempt == 2:
                    raise
                time.sleep(5)


class Nothing(Profiler):
    name = "nothing"

    def start(self, hz):
        pass

    def stop(self):
        pass

    def cpu_ns(self):
        return 0


class Timer(Profiler):
    """The sampling event alone: the timer interrupt and the kernel's handler, with nobody to take the sample."""

    name = "the timer alone"
    NR = {"x86_64": 298, "aarch64": 241}.get(platform.machine())
    FREQ = 1 << 10

    def start(self, hz):
        # perf_event_attr, PERF_ATTR_SIZE_VER0: PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK
        attr = struct.pack("IIQQQQQIIQ", 1, 64, 0, hz, 0, 0, self.FREQ, 0, 0, 0)
        self.fds = [libc.syscall(self.NR, attr, -1, cpu, -1, 0) for cpu in sorted(os.sched_getaffinity(0))]
        if min(self.fds) < 0:
            raise OSError(ctypes.get_errno(), "perf_event_open")

    def stop(self):
        for fd in self.fds:
            os.close(fd)

    def cpu_ns(self):
        return 0


class Tracepoints(Profiler):
    """Empty BPF programs on the raw tracepoints around each system call: what tracing them costs at the least."""

    name = "empty tracepoints"
    NR = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
    PROG_LOAD, TRACEPOINT_OPEN, RAW_TRACEPOINT = 5, 17, 17

    def bpf(self, command, attr):
        fd = libc.syscall(self.NR, command, attr, len(attr))
        if fd < 0:
            raise OSError(ctypes.get_errno(), f"bpf({command})")
        self.fds.append(fd)
        return fd

    def start(self, hz):
        self.fds = []
        code = ctypes.create_string_buffer(struct.pack("QQ", 0xB7, 0x95))  # r0 = 0; exit
        words = [ctypes.create_string_buffer(text) for text in (b"GPL", b"sys_enter", b"sys_exit")]
        text, *points = (ctypes.addressof(one) for one in words)
        program = struct.pack("IIQQIIQI4x", self.RAW_TRACEPOINT, 2, ctypes.addressof(code), text, 0, 0, 0, 0)
        number = self.bpf(self.PROG_LOAD, program)
        for point in points:
            self.bpf(self.TRACEPOINT_OPEN, struct.pack("QI4x", point, number))

    def stop(self):
        for fd in self.fds:
            os.close(fd)

    def cpu_ns(self):
        return 0


class Agent(Profiler):
    name = "aperture-agent"
    options = ()

    def __init__(self, *options):
        if options:
            self.options = options
            self.name = f"{Agent.name} {' '.join(options)}"

    def start(self, hz):
        self.out = tempfile.TemporaryDirectory(prefix="aperture-bench-")
        reader, writer = os.pipe()
        self.process = spawn(
            [BUILD / "aperture-agent", *(self.options or ("-F", str(hz))), "-q", "-o", f"{self.out.name}/a.json"]
            + ["--ready-fd", str(writer)],
            pass_fds=[writer],
        )
        os.close(writer)
        ready = select.select([reader], [], [], STARTUP_S)[0] and os.read(reader, 1)
        os.close(reader)
        if not ready:
            raise RuntimeError(f"aperture-agent does not start: {end(self.process)}")

    def stop(self):
        words = end(self.process)
        try:
            text = read(f"{self.out.name}/a.json")
        finally:
            self.out.cleanup()
        if not text:
            raise RuntimeError(f"aperture-agent wrote nothing: {words}")
        # without the trees, which nest as deep as the deepest stack on the machine
        head, profiles = text.split(',"profiles":[', 1)
        account = profiles[profiles.rindex('],"expected":') + 2 :]
        document = json.loads(f"{head},{account}")
        return document | {"duration_ns": int(re.search(r'"duration_ns":(\d+)', profiles)[1])}


class Perf(Profiler):
    name = "perf record -g"

    def start(self, hz):
        self.out = tempfile.TemporaryDirectory(prefix="aperture-bench-")
        ctl, self.ctl = os.pipe()
        self.ack, ack = os.pipe()
        self.process = spawn(
            ["perf", "record", "-F", str(hz), "-a", "-g", "-e", "cpu-clock", "-D", "-1"]
            + ["--control", f"fd:{ctl},{ack}", "-o", f"{self.out.name}/perf.data"],
            pass_fds=[ctl, ack],
        )
        os.close(ctl)
        os.close(ack)
        os.write(self.ctl, b"enable\n")
        if not select.select([self.ack], [], [], STARTUP_S)[0] or not os.read(self.ack, 16):
            raise RuntimeError(f"perf does not start: {end(self.process)}")

    def stop(self):
        end(self.process)
        os.close(self.ctl)
        os.close(self.ack)
        self.out.cleanup()


class Bpftrace(Profiler):
    """Counts stacks in the kernel, by stack ids, as bcc's profile does."""

    name = "bpftrace profile"

    def start(self, hz):
        script = f"BEGIN {{ printf(\"ready\\n\"); }} profile:hz:{hz} {{ @[kstack, ustack, pid, comm] = count(); }}"
        self.process = spawn(["bpftrace", "-B", "line", "-e", script], stdout=subprocess.PIPE)
        while line := self.process.stdout.readline():
            if line == "ready\n":
                return
        raise RuntimeError(f"bpftrace does not start: {end(self.process)}")

    def stop(self):
        end(self.process, signal.SIGKILL)  # naming at its end can take minutes


class Held(Profiler):
    """A program that records once the kernel objects are there which it records with."""

    def __init__(self, *command):
        self.command = command
        self.name = " ".join(command)

    def start(self, hz):
        self.process = spawn(self.command)
        end_s = time.monotonic() + STARTUP_S
        while not self.attached():
            if self.process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"{self.name} does not start: {end(self.process, signal.SIGKILL)}")
            time.sleep(0.02)

    def attached(self):
        """It holds what lets its BPF programs run, and no longer changes that."""
        before = self.links()
        time.sleep(0.1)
        return before and before == self.links()

    def links(self):
        infos = pathlib.Path(f"/proc/{self.process.pid}/fdinfo").iterdir()
        return sum("link_id:" in read(info) for info in infos)

    def stop(self):
        end(self.process, signal.SIGKILL)  # what they say at their end is of no interest, and can take long


class PerfTrace(Held):
    """perf trace -s: through perf's ring buffer, which it reads all the time."""

    def __init__(self):
        super().__init__("perf", "trace", "-a", "-s")

    def links(self):
        fds = pathlib.Path(f"/proc/{self.process.pid}/fd")
        return sum("perf_event" in os.readlink(fd) for fd in fds.iterdir() if os.path.lexists(fd))


def tracers():
    """{load: who is measured under it} for waits, locks and system calls, and who cannot be."""
    missing, off_cpu, calls = [], [], []
    for program, found, commands in (
        ("offcputime", off_cpu, (("offcputime", "-m", "1000"), ("offcputime", "-m", "1"))),
        ("syscount", calls, (("syscount", "-L"),)),
    ):
        if shutil.which(program):
            found += [Held(*command) for command in commands]
        else:
            missing.append(f"libbpf-tools' `{program}`: not installed (libbpf-tools)")
    if shutil.which("perf"):
        calls.append(PerfTrace())
    else:
        missing.append("perf: not installed")
    lock, off = Agent("--mode", "lock"), Agent("--mode", "offcpu")
    return {
        "getppid": [Tracepoints(), Agent("--mode", "syscall"), *calls],
        "lock": [lock, *off_cpu[:1]],
        "contended": [lock, *off_cpu],
        "pipe": [off, Agent("--mode", "offcpu", "--min-block", "1us"), *off_cpu],
    }, missing


def peers():
    """Who can be measured here, with versions, and who cannot and why."""
    there, missing = [Agent()], []
    versions = {"aperture-agent": first_line([BUILD / "aperture-agent", "--version"])}
    for command, profiler in (("perf", Perf()), ("bpftrace", Bpftrace())):
        if shutil.which(command):
            there.append(profiler)
            versions[profiler.name] = first_line([command, "--version"])
        else:
            missing.append(f"{command}: not installed")
    if shutil.which("syscount"):
        versions["libbpf-tools"] = first_line(["dpkg-query", "-W", "-f", "${Version}", "libbpf-tools"])
    if not shutil.which("profile-bpfcc"):
        missing.append("bcc's `profile`: not installed (bpfcc-tools)")
    elif not pathlib.Path(f"/lib/modules/{platform.release()}/build").exists():
        missing.append("bcc's `profile` (bpfcc-tools): needs headers of the running kernel, and there are none")
    missing.append("libbpf-tools' `profile`: not in Debian 12's libbpf-tools (0.26)")
    return there, versions, missing


def first_line(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[0]


class Watch:
    """Follows the memory of a process until it ends: its peak is gone with it."""

    def __init__(self, pid):
        self.pid, self.peak, self.rings, self.on = pid, 0, 0, True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while self.on:
            peak, rings = memory(self.pid)
            self.peak, self.rings = max(self.peak, peak), max(self.rings, rings)
            time.sleep(0.05)

    def stop(self):
        self.on = False
        self.thread.join()
