# SPDX-License-Identifier: Apache-2.0 OR MIT
"""src/rpc against Python's gRPC, on both sides, and against peers that misbehave."""
import concurrent.futures
import contextlib
import json
import os
import resource
import socket
import struct
import subprocess
import time

import grpc
import pytest

import support
from support import BUILD, CRASH, Process

pytestmark = pytest.mark.sanitizer

ECHO = "/test.Echo/Echo"
HEALTH = "/grpc.health.v1.Health/Check"
MESSAGE_SZ = 64 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
SANITIZED = "asan" in BUILD.name  # memory that is freed is kept for a while
BIG = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Server(Process):
    """rpc-echo, ready to be called."""

    def __init__(self, *words, listen="127.0.0.1:0"):
        super().__init__([BUILD / "tests" / "rpc-echo", listen, *words])
        line = self.popen.stdout.readline().split()
        assert line[:1] == ["port"], self.wait().err
        self.port = int(line[1])
        self.address = listen if listen.startswith("unix:") else f"127.0.0.1:{self.port}"

    def channel(self, credentials=None, options=(), **more):
        # each with a connection of its own
        options = [("grpc.use_local_subchannel_pool", 1), *options]
        if credentials:
            return grpc.secure_channel(f"localhost:{self.port}", credentials, options=options, **more)
        return grpc.insecure_channel(self.address, options=options, **more)

    def stats(self):
        with self.channel() as channel:
            return json.loads(channel.unary_unary("/test.Echo/Stats")(b"", timeout=30))

    def rss(self):
        return int(support.read(f"/proc/{self.pid}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def __exit__(self, *unused):
        if self.popen.poll() is None:
            started = time.monotonic()
            self.stop(timeout=60)
            assert time.monotonic() - started < 20
            assert self.rc == 0 and not CRASH.search(self.err) and not self.err, self.err
        super().__exit__(*unused)


@pytest.fixture
def server():
    with Server() as one:
        yield one


def echoes(channel, data=b"some bytes", method=ECHO, **options):
    options.setdefault("timeout", 60)
    assert channel.unary_unary(method)(data, **options) == data


def refused(channel, code, data=b"", method=ECHO, **options):
    """The details with which the call is refused."""
    options.setdefault("timeout", 60)
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(method)(data, **options)
    assert error.value.code() == code, error.value
    return error.value.details()


def test_echo(server):
    with server.channel(options=BIG) as channel:
        for size in (0, 1, 4500, 1 << 20, MESSAGE_SZ):
            echoes(channel, os.urandom(4096) * (size // 4096) + b"x" * (size % 4096))
        assert channel.unary_unary("/test.Echo/Peer")(b"", timeout=30).startswith(b"ipv4:127.0.0.1:")
        assert "no such method" in refused(channel, grpc.StatusCode.UNIMPLEMENTED, method="/test.Echo/Nothing")
        assert "longer than 64 MiB" in refused(channel, grpc.StatusCode.RESOURCE_EXHAUSTED, bytes(MESSAGE_SZ + 1))
        refused(channel, grpc.StatusCode.DEADLINE_EXCEEDED, method="/test.Echo/Hang", timeout=0.2)
    stats = server.stats()
    assert stats["refused_size"] == 1 and stats["calls"] == 10


def test_compressed_requests(server):
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        with server.channel(compression=algorithm, options=BIG) as channel:
            echoes(channel, b"abc" * 10000)
            before = server.rss()
            refused(channel, grpc.StatusCode.RESOURCE_EXHAUSTED, bytes(200 << 20))
            assert server.rss() < before + (150 << 20) or SANITIZED


def test_unix_socket(tmp_path):
    with Server(listen=f"unix:{tmp_path}/socket") as one, one.channel() as channel:
        echoes(channel)


def test_token():
    with Server("token", "sesame") as one, one.channel() as channel:
        assert "a token is needed" in refused(channel, grpc.StatusCode.UNAUTHENTICATED)
        for wrong in ("Bearer sesam", "Bearer sesame2", "Bearer ", "sesame", "bearer sesame", ""):
            metadata = [("authorization", wrong)]
            assert "not known" in refused(channel, grpc.StatusCode.UNAUTHENTICATED, metadata=metadata)
        echoes(channel, metadata=[("authorization", "Bearer sesame")])
        assert one.stats()["refused_auth"] == 7
        with one.channel() as other, pytest.raises(grpc.RpcError) as error:  # gRPC may end the connection over it
            other.unary_unary(ECHO)(b"", metadata=[("authorization", "Bearer " + "x" * 20000)], timeout=60)
        assert error.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        echoes(channel, metadata=[("authorization", "Bearer sesame")])


def test_health():
    with Server("token", "sesame") as one, one.channel() as channel:
        check = channel.unary_unary(HEALTH)
        assert check(b"", timeout=30) == b"\x08\x01"
        assert check(b"\x0a\x09test.Echo", timeout=30) == b"\x08\x01"
        refused(channel, grpc.StatusCode.NOT_FOUND, b"\x0a\x04none", method=HEALTH)
        refused(channel, grpc.StatusCode.INVALID_ARGUMENT, b"\x0a", method=HEALTH)


@pytest.fixture
def certs(tmp_path, tool):
    """Paths of an authority's certificate and of those it signed, by name."""

    def make(name, *more):
        tool("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-x509", "-days", "2",
             "-subj", f"/CN={name}", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt", *more)

    make("ca")
    make("stranger")
    for name, alt in (("server", "DNS:localhost,IP:127.0.0.1"), ("client", "DNS:client")):
        make(name, "-CA", tmp_path / "ca.crt", "-CAkey", tmp_path / "ca.key", "-addext", f"subjectAltName={alt}",
             "-addext", "basicConstraints=critical,CA:FALSE")
    return tmp_path


def credentials(certs, ca="ca", name=None):
    pair = (None, None) if not name else ((certs / f"{name}.key").read_bytes(), (certs / f"{name}.crt").read_bytes())
    return grpc.ssl_channel_credentials((certs / f"{ca}.crt").read_bytes(), *pair)


def test_tls(certs):
    with Server("tls", certs / "server.crt", certs / "server.key") as one:
        with one.channel(credentials(certs)) as channel:
            echoes(channel, b"x" * 1000000)
        with one.channel(credentials(certs, ca="stranger")) as channel:
            refused(channel, grpc.StatusCode.UNAVAILABLE)
        with one.channel() as channel:
            refused(channel, grpc.StatusCode.UNAVAILABLE)
        with one.channel(credentials(certs)) as channel:
            echoes(channel)


def test_mutual_tls(certs):
    with Server("tls", certs / "server.crt", certs / "server.key", certs / "ca.crt") as one:
        with one.channel(credentials(certs, name="client")) as channel:
            echoes(channel)
        with one.channel(credentials(certs)) as channel:
            refused(channel, grpc.StatusCode.UNAVAILABLE)
        with one.channel(credentials(certs, name="stranger")) as channel:
            refused(channel, grpc.StatusCode.UNAVAILABLE)


def test_thousand_calls_at_once(server):
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(server.channel()) for _ in range(4)]
        calls = []
        for i in range(1000):
            data = b"%d " % i * 500
            calls.append((data, channels[i % 4].unary_unary("/test.Echo/Later").future(data, timeout=120)))
        for data, call in calls:
            assert call.result() == data
    with server.channel() as channel:  # more than one connection may have at once: they take turns
        calls = [channel.unary_unary("/test.Echo/Later").future(b"x", timeout=120) for _ in range(1000)]
        assert all(call.result() == b"x" for call in calls)
    assert server.stats()["refused_busy"] == 0


def test_too_many_calls(server):
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(server.channel()) for _ in range(5)]
        calls = [channels[i // 250].unary_unary("/test.Echo/Hang").future(b"", timeout=120) for i in range(1100)]
        support.wait_until(lambda: server.stats()["refused_busy"] >= 76, what="refusals")
        with server.channel() as channel:
            assert channel.unary_unary(HEALTH)(b"", timeout=30) == b"\x08\x01"
            assert "come back later" in refused(channel, grpc.StatusCode.RESOURCE_EXHAUSTED)
        for call in calls:
            call.cancel()
        support.wait_until(lambda: server.stats()["in_progress"] == 1, what="the end of cancelled calls")
        with server.channel() as channel:
            echoes(channel)


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def test_idle_connections(server):
    """Two thousand that shook hands and two thousand that say nothing; the latter do not last."""
    before = server.rss()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        silent = [stack.enter_context(connect(server.port)) for _ in range(2000)]
        open_ones = [stack.enter_context(connect(server.port)) for _ in range(2000)]
        for one in open_ones:
            one.sendall(PREFACE + SETTINGS)
        for one in open_ones:
            assert one.recv(9)[3] == 4  # SETTINGS
        with server.channel() as channel:
            started = time.monotonic()
            for _ in range(100):
                echoes(channel, b"x" * 4500)
            assert time.monotonic() - started < 20
        print(f"{(server.rss() - before) / 4000:.0f} bytes a connection")
        assert server.rss() - before < 4000 * 60000 or SANITIZED
        silent[0].settimeout(30)
        while silent[0].recv(4096):  # its side of the handshake, and the end
            pass
        assert server.stats()["refused_connections"] == 0


def test_more_connections_than_descriptors(tool):
    with Server() as one:
        tool("prlimit", "--pid", one.pid, "--nofile=256:256")  # less than it reckons with
        with one.channel() as early, contextlib.ExitStack() as stack:
            echoes(early)
            for _ in range(600):
                stack.enter_context(connect(one.port))  # the kernel takes what the server cannot
            for _ in range(20):
                echoes(early)
        with one.channel() as late:
            echoes(late, wait_for_ready=True)


def half_spoken():
    """What a client may send before it falls silent, or sends in place of HTTP/2."""
    headers = frame(1, 4, 1, b"\x83\x86\x44" + bytes([len(ECHO)]) + ECHO.encode())
    opened = PREFACE + SETTINGS
    return [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(300),
        os.urandom(3000),
        b"\0" * 3000,
        PREFACE[:10],
        opened[:-3],
        opened + frame(1, 4, 1, bytes(40))[:20],
        opened + headers,
        opened + headers + frame(0, 0, 1, b"\0\0\0\1\0abc"),
        opened + headers + frame(0, 0, 1, b"\0\xff\xff\xff\xffabc"),
        opened + headers + frame(0, 1, 1, b"\7\0\0\0\1x"),
        opened + frame(1, 4, 2, b"\x83"),
        opened + frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
        opened + frame(99, 0xFF, 1, b"unknown"),
        opened + frame(8, 0, 0, b"\0\0\0\0"),
        opened + frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),
        opened + frame(9, 4, 1, b"continues nothing"),
        opened + b"\xff\xff\xff\0\0\0\0\0\1",
        opened + frame(6, 0, 0, bytes(8)) * 1000,
        opened + b"".join(frame(1, 5, 1 + 2 * i, b"\x83\x86\x44\x01/") for i in range(3000)),
        opened + b"".join(frame(1, 4, 1 + 2 * i, b"\x83\x86\x44\x01/") + frame(3, 0, 1 + 2 * i, bytes(4))
                          for i in range(3000)),
    ]


def test_peers_that_misbehave(server):
    with contextlib.ExitStack() as stack:
        for data in half_spoken():
            for _ in range(5):
                one = stack.enter_context(connect(server.port))
                with contextlib.suppress(OSError):
                    one.sendall(data)
        with server.channel() as channel:
            for _ in range(20):
                echoes(channel)
        assert server.rss() < 512 << 20 or SANITIZED


def test_garbage_in_tls(certs):
    with Server("tls", certs / "server.crt", certs / "server.key") as one, contextlib.ExitStack() as stack:
        for data in half_spoken():
            peer = stack.enter_context(connect(one.port))
            with contextlib.suppress(OSError):
                peer.sendall(data)
        with one.channel(credentials(certs)) as channel:
            echoes(channel)


def test_stops_in_time(server):
    with server.channel() as channel:
        calls = [channel.unary_unary("/test.Echo/Hang").future(b"", timeout=60) for _ in range(50)]
        support.wait_until(lambda: server.stats()["in_progress"] == 51, what="hanging calls")
        started = time.monotonic()
        server.stop()
        assert 0.4 < time.monotonic() - started < 5
        assert server.rc == 0 and not server.err
        for call in calls:
            assert call.exception().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


class Handler(grpc.GenericRpcHandler):
    """A server in Python."""

    def __init__(self):
        self.seen = []

    def service(self, details):
        methods = {
            ECHO: lambda request, context: request,
            "/test.Echo/Zeros": lambda request, context: bytes(int(request)),
            "/test.Echo/Fail": lambda request, context: context.abort(grpc.StatusCode[request.decode()], "because"),
            "/test.Echo/Slow": lambda request, context: time.sleep(float(request)) or b"",
        }
        self.seen.append(dict(details.invocation_metadata))
        method = methods.get(details.method)
        return method and grpc.unary_unary_rpc_method_handler(method)


@contextlib.contextmanager
def python_server(server_credentials=None, **options):
    handler = Handler()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[handler], options=BIG, **options)
    if server_credentials:
        handler.port = server.add_secure_port("127.0.0.1:0", server_credentials)
    else:
        handler.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler
    finally:
        server.stop(0).wait()


def call(endpoint, method, data=b"", *words, timeout_ms=30000, expect=0):
    """What rpc-call says: the answer, or its words."""
    done = subprocess.run([str(BUILD / "tests" / "rpc-call"), endpoint, method, str(timeout_ms), *map(str, words)],
                          input=data, capture_output=True, timeout=90, check=False)
    assert not CRASH.search(done.stderr.decode())
    assert done.returncode == expect, done.stderr
    return done.stderr.decode() if expect else done.stdout


def test_client_with_another_server():
    with python_server() as handler:
        endpoint = f"http://127.0.0.1:{handler.port}"
        for data in (b"", b"x", os.urandom(5 << 20)):
            assert call(endpoint, ECHO, data) == data
        assert "authorization" not in handler.seen[-1]
        assert call(endpoint, ECHO, b"x", "token", "sesame") == b"x"
        assert handler.seen[-1]["authorization"] == "Bearer sesame"
        assert handler.seen[-1]["user-agent"].startswith("aperture/")
        for code in ("INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"):
            words = call(endpoint, "/test.Echo/Fail", code.encode(), expect=1)
            assert words.startswith(f"{code}: {endpoint}: because"), words
        assert "does not allow" in call(endpoint, "/test.Echo/Fail", b"PERMISSION_DENIED", expect=1)
        assert "does not know /test.Echo/None" in call(endpoint, "/test.Echo/None", expect=1)
        words = call(endpoint, "/test.Echo/Slow", b"2", timeout_ms=200, expect=1)
        assert words.startswith(f"DEADLINE_EXCEEDED: no answer from {endpoint} within 200"), words
        assert call(endpoint, "/test.Echo/Zeros", b"%d" % MESSAGE_SZ) == bytes(MESSAGE_SZ)
        assert "RESOURCE_EXHAUSTED" in call(endpoint, "/test.Echo/Zeros", b"%d" % (MESSAGE_SZ + 1), expect=1)
    assert "connection refused; is aperture-aggregator running there?" in call(endpoint, ECHO, expect=1)


def test_client_with_answers_that_are_compressed():
    with python_server(compression=grpc.Compression.Gzip) as handler:
        endpoint = f"http://127.0.0.1:{handler.port}"
        assert call(endpoint, "/test.Echo/Zeros", b"1000000") == bytes(1000000)
        words = call(endpoint, "/test.Echo/Zeros", b"%d" % (200 << 20), expect=1)
        assert "the answer cannot be read: Message too long" in words


def test_client_in_tls(certs):
    pair = [((certs / "server.key").read_bytes(), (certs / "server.crt").read_bytes())]
    with python_server(grpc.ssl_server_credentials(pair)) as handler:
        endpoint = f"https://localhost:{handler.port}"
        assert call(endpoint, ECHO, b"x", "tls", certs / "ca.crt") == b"x"
        assert "is not trusted" in call(endpoint, ECHO, b"x", "tls", certs / "stranger.crt", expect=1)
        plain = f"http://127.0.0.1:{handler.port}"
        assert "the server speaks TLS; try https://" in call(plain, ECHO, expect=1)
    mutual = grpc.ssl_server_credentials(pair, (certs / "ca.crt").read_bytes(), True)
    with python_server(mutual) as handler:
        endpoint = f"https://localhost:{handler.port}"
        own = [certs / f"client.{end}" for end in ("crt", "key")]
        assert call(endpoint, ECHO, b"x", "tls", certs / "ca.crt", *own) == b"x"
        assert "wants a certificate of the client" in call(endpoint, ECHO, b"x", "tls", certs / "ca.crt", expect=1)
        own = [certs / f"stranger.{end}" for end in ("crt", "key")]
        words = call(endpoint, ECHO, b"x", "tls", certs / "ca.crt", *own, expect=1)
        assert "the server does not accept the certificate" in words
    with python_server() as handler:
        endpoint = f"https://localhost:{handler.port}"
        assert "try http://" in call(endpoint, ECHO, b"x", "tls", certs / "ca.crt", expect=1)
