# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The HTTP server itself: files, hostile clients, many connections, TLS, stopping."""
import concurrent.futures
import contextlib
import gzip
import json
import re
import resource
import socket
import ssl
import subprocess
import time

import pytest

import support
from api import Server


@pytest.fixture(scope="module")
def server():
    with Server() as one:
        yield one
        assert not support.CRASH.search(one.stop().err)


def exchange(server, data, timeout=60, end=True):
    """Everything that comes back for these bytes until the server closes; `end`: nothing more will be sent."""
    answer = b""
    with server.socket(timeout) as sock:
        with contextlib.suppress(OSError):  # it may have had enough before
            sock.sendall(data)
            if end:
                sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                answer += part
    return answer


# Files -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path):
    ui = tmp_path / "ui"
    (ui / "assets").mkdir(parents=True)
    (ui / "index.html").write_text("<!doctype html><title>Aperture</title>")
    (ui / "assets" / "index-B1cD9xQ2.js").write_text("export {}")
    (ui / "assets" / "index-B1cD9xQ2.js.gz").write_bytes(gzip.compress(b"export {}"))
    (ui / "assets" / "plain.css").write_text("a{}")
    (ui / "logo.svg").write_text("<svg/>")
    (ui / ".secret").write_text("secret")
    (tmp_path / "outside.txt").write_text("secret")
    (ui / "link.txt").symlink_to(tmp_path / "outside.txt")
    (tmp_path / "ui-other").mkdir()
    (tmp_path / "ui-other" / "x.txt").write_text("secret")
    with Server("--ui", ui) as one:
        one.ui = ui
        yield one


@pytest.mark.sanitizer
def test_files(site):
    page = site.ask("/")
    assert page.status == 200 and b"Aperture" in page.body and page.type == "text/html"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-cache" and page.headers["X-Content-Type-Options"] == "nosniff"
    again = site.ask("/", headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    script = site.ask("/assets/index-B1cD9xQ2.js")
    assert script.type == "text/javascript" and "immutable" in script.headers["Cache-Control"]
    assert "Content-Encoding" not in script.headers
    packed = site.ask("/assets/index-B1cD9xQ2.js", headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip" and packed.body == script.body
    assert packed.headers["Vary"] == "Accept-Encoding" and packed.headers["ETag"] != script.headers["ETag"]
    assert "immutable" not in site.ask("/assets/plain.css").headers["Cache-Control"]
    assert site.ask("/logo.svg").type == "image/svg+xml"
    head = site.ask("/", "HEAD")
    assert head.status == 200 and head.body == b"" and head.headers["Content-Length"] == str(len(page.body))
    assert site.ask("/", "POST", "x").status == 405


@pytest.mark.sanitizer
def test_addresses_inside_the_dashboard_are_its_own(site):
    assert b"Aperture" in site.ask("/flamegraph/cpu?from=1h").body
    assert site.ask("/assets/gone-B1cD9xQ2.js").status == 404
    assert site.ask("/api/gone").status == 404


@pytest.mark.sanitizer
@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/assets/../../outside.txt",
        "/assets/..%2f..%2foutside.txt",
        "/..\\outside.txt",
        "/link.txt",
        "/.secret",
        "/../ui-other/x.txt",
        "//etc/passwd",
        "/assets",
        "/assets/",
        "/index.html/",
        "/%00",
        "/" + "a" * 5000,
        "/" + "a/" * 1500,
    ],
)
def test_no_way_out_of_the_folder(site, path):
    answer = exchange(site, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b"secret" not in answer and b"root:" not in answer
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")) or b"<title>Aperture" in answer


def test_without_a_dashboard(server):
    answer = server.ask("/")
    assert answer.status == 404 and "/api/" in answer.json["error"]["message"]


# Hostile clients -------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_sizes(server):
    headers = "".join(f"X-{i}: {'y' * 1000}\r\n" for i in range(20))
    answer = exchange(server, f"GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 431") and b"headers_too_large" in answer
    headers = "".join(f"X-{i}: {'y' * 1000}\r\n" for i in range(200))
    answer = exchange(server, f"GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
    answer = exchange(server, b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer == b"" or answer[9:12] in (b"414", b"431")
    for length in (65 << 20, 1 << 40, 2**64 - 1):
        answer = exchange(server, f"POST /api/import HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 413") and b"body_too_large" in answer, length
    for length in ("-1", "x", "1" * 40, ""):
        answer = exchange(server, f"POST /api/import HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        assert answer == b"" or answer[9:12] in (b"400", b"413"), (length, answer)


@pytest.mark.sanitizer
def test_chunked_bodies(server):
    head = b"POST /api/import HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert exchange(server, head + b"4\r\na;b \r\n2\r\n1\n\r\n0\r\n\r\n").startswith(b"HTTP/1.1 200")
    for broken in (b"zz\r\na;b", b"4\r\na;b 1\r\n", b"-4\r\na;b \r\n0\r\n\r\n", b"fffffffffffffffff\r\nx", b"4\r\na;b"):
        answer = exchange(server, head + broken)
        assert answer == b"" or answer[9:12] in (b"400", b"413"), (broken, answer)
    # Longer than may be, without saying so before.
    with server.socket() as sock:
        sock.sendall(head.replace(b"/api/import", b"/api/aggregate"))
        for _ in range(3):
            sock.sendall(b"80000\r\n" + b" " * 0x80000 + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 413")
    assert server.ask("/healthz").status == 200


@pytest.mark.sanitizer
def test_what_is_no_http(server):
    for data in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\r\n" * 1000, b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000, b"x y z\r\n\r\n"):
        answer = exchange(server, data)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4") or answer.startswith(b"HTTP/1.1 5"), data
    assert server.ask("/healthz").status == 200


@pytest.mark.sanitizer
def test_pipelining_answers_in_order(server):
    one = b"GET /api/labels HTTP/1.1\r\nHost: x\r\n\r\n"
    other = b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(server, (one + other) * 20 + last, end=False)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert statuses == [b"200", b"404"] * 20 + [b"200"]


@pytest.mark.sanitizer
def test_one_connection_serves_many_requests(server):
    connection = server.connect()
    for i in range(50):
        assert server.ask("/api/top", connection=connection).status == 200
        assert server.post("/api/aggregate", {"limit": 0}, connection=connection).status == 400
        assert server.ask("/api/import", "POST", "a;b 1", {"Content-Type": "text/plain"}, connection=connection).status == 200
    sock = connection.sock
    assert sock is not None
    connection.close()


def closed_after(sock, start, feed=b"", limit=75):
    """Seconds until the server closes; a byte goes out every half second."""
    sock.settimeout(0.5)
    while time.monotonic() - start < limit:
        try:
            if feed:
                sock.sendall(feed)
            if not sock.recv(1000):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - start


@pytest.mark.slow
def test_slow_clients_are_cut_off():
    with Server() as server, concurrent.futures.ThreadPoolExecutor(4) as pool, contextlib.ExitStack() as stack:
        start = time.monotonic()
        starts = {
            "silent": (b"", b""),
            "head": (b"GET /healthz HTTP/1.1\r\nX-A: ", b"a"),
            "body": (b"POST /api/import HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"a"),
        }
        jobs = {}
        for name, (first, feed) in starts.items():
            sock = stack.enter_context(server.socket())
            sock.sendall(first)
            jobs[name] = pool.submit(closed_after, sock, start, feed)
        assert server.ask("/healthz").status == 200
        for name, job in jobs.items():
            assert 25 < job.result() < 45, name
        server.popen.terminate()
        assert json.loads(server.wait().out)["refused_slow"] >= 2


@pytest.mark.slow
def test_thousands_of_idle_connections():
    wanted = 6000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted + 200:
        pytest.skip(f"needs {wanted} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 200), hard))
    with Server() as server, contextlib.ExitStack() as stack:
        for i in range(wanted):
            sock = stack.enter_context(server.socket())
            if i % 2:
                sock.sendall(b"GET /api/top HTTP/1.1\r\nHo")
        connections = support.wait_until(
            lambda: server.ask("/api/health").json["http"]["connections"] > wanted, what="all connections")
        assert connections
        times = []
        for _ in range(50):
            start = time.monotonic()
            assert server.ask("/api/top").status == 200
            times.append(time.monotonic() - start)
        assert sorted(times)[45] < 0.5
        rss = int(support.read(f"/proc/{server.pid}/statm").split()[1]) * resource.getpagesize()
        assert rss < (400 << 20), rss
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.sanitizer
def test_slow_questions_block_nobody():
    with Server("--delay", "3s", "--workers", "2") as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = pool.submit(server.ask, "/api/batches")
        start = time.monotonic()
        for path in ("/healthz", "/metrics", "/api/top"):
            assert server.ask(path).status == 200
        assert time.monotonic() - start < 2 and not slow.done()
        assert slow.result().status == 200


# Stopping --------------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_stop_finishes_what_is_in_progress():
    with Server("--delay", "1500ms") as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        idle = server.connect()
        assert server.ask("/healthz", connection=idle).status == 200
        jobs = [pool.submit(server.ask, "/api/batches") for _ in range(3)]
        support.wait_until(lambda: server.ask("/api/health").json["http"]["requests"] >= 5, what="the requests")
        server.popen.terminate()
        assert [job.result().status for job in jobs] == [200] * 3
        assert server.wait(30).rc == 0
        assert json.loads(server.out)["stop_ns"] < 5e9
        with pytest.raises(OSError):
            server.ask("/healthz")
        assert not support.CRASH.search(server.err), server.err


@pytest.mark.sanitizer
def test_stop_does_not_wait_for_ever():
    with Server("--delay", "12s", "--grace", "1s", "--workers", "2") as server:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(server.ask, "/api/batches") for _ in range(6)]
            support.wait_until(lambda: server.ask("/api/health").json["http"]["requests"] >= 7, what="the requests")
            start = time.monotonic()
            server.popen.terminate()
            answers = [job.result() for job in jobs]
            assert time.monotonic() - start < 5
            assert {(answer.status, answer.json["error"]["code"]) for answer in answers} == {(503, "stopping")}
        server.wait(60)
        assert json.loads(server.out)["stop_ns"] < 5e9 and server.rc == 0
        assert not support.CRASH.search(server.err), server.err


@pytest.mark.sanitizer
def test_stop_under_load():
    with Server("--grace", "500ms") as server, concurrent.futures.ThreadPoolExecutor(16) as pool:

        def hammer():
            done = 0
            with contextlib.suppress(OSError, support.subprocess.SubprocessError, Exception):
                connection = server.connect(5)
                while True:
                    assert server.ask("/api/top", connection=connection).status in (200, 429, 503)
                    done += 1
            return done

        jobs = [pool.submit(hammer) for _ in range(16)]
        support.wait_until(lambda: server.ask("/api/health").json["http"]["requests"] > 500, what="load")
        server.popen.terminate()
        server.wait(30)
        assert sum(job.result() for job in jobs) > 0
        assert server.rc == 0 and not support.CRASH.search(server.err), server.err


# Start -----------------------------------------------------------------------------------------------------------------


def refused(*args):
    with pytest.raises(AssertionError) as error:
        Server(*args)
    return str(error.value)


def test_what_cannot_start_says_why(server, tmp_path):
    assert "another program has this port" in refused("--listen", f"127.0.0.1:{server.port}")
    assert "does not have that address" in refused("--listen", "192.0.2.1:0")
    for wrong in ("127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:80", ":"):
        assert ":9090" in refused("--listen", wrong), wrong
    assert "no such" in refused("--ui", tmp_path / "gone").lower()
    (tmp_path / "bad.pem").write_text("no certificate")
    assert "gone.pem" in refused("--tls-cert", tmp_path / "gone.pem", "--tls-key", tmp_path / "gone.pem")
    assert "bad.pem" in refused("--tls-cert", tmp_path / "bad.pem", "--tls-key", tmp_path / "bad.pem")
    assert "key" in refused("--tls-cert", tmp_path / "bad.pem")


def test_ipv6():
    with Server("--listen", "[::1]:0", host="::1") as server:
        assert server.ask("/healthz").status == 200
        assert server.ask("/api/top").status == 200


# TLS -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Two authorities; a certificate for 127.0.0.1 and one for a client by the first, one for a client by the second."""
    path = tmp_path_factory.mktemp("pki")

    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], cwd=path, check=True, capture_output=True)

    def authority(name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip

    def issue(name, ca, extension):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        (path / f"{name}.ext").write_text(extension)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
                "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip

    authority("ca")
    authority("strangers")
    issue("server", "ca", "subjectAltName=IP:127.0.0.1")
    issue("client", "ca", "extendedKeyUsage=clientAuth")
    issue("stranger", "strangers", "extendedKeyUsage=clientAuth")
    return path


def context(pki, client=None):
    one = ssl.create_default_context(cafile=pki / "ca.pem")
    if client:
        one.load_cert_chain(pki / f"{client}.pem", pki / f"{client}.key")
    return one


def test_tls(pki):
    keys = ("--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key")
    with Server(*keys, tls=context(pki)) as server:
        assert server.ask("/healthz").status == 200
        connection = server.connect()
        for _ in range(20):
            assert server.ask("/api/top", connection=connection).status == 200
        assert connection.sock.version() in ("TLSv1.3", "TLSv1.2")
        old = context(pki)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        server.tls = old
        with pytest.raises(OSError):
            server.ask("/healthz")
        assert b"HTTP/1.1 2" not in exchange(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")


def test_mutual_tls(pki):
    keys = ("--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key", "--tls-ca", pki / "ca.pem")
    with Server(*keys, tls=context(pki, "client")) as server:
        assert server.ask("/healthz").status == 200
        assert server.post("/api/aggregate", {}).status == 200
        for stranger in (None, "stranger"):
            server.tls = context(pki, stranger)
            with pytest.raises(OSError):
                server.ask("/healthz")
        server.tls = context(pki, "client")
        assert server.ask("/healthz").status == 200
