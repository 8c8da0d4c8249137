# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Who may do what: tokens, scopes, TLS, and where the aggregator listens without either."""
import json
import os
import re
import signal
import socket
import ssl
import subprocess

import grpc
import pytest

import aggregator as agg
import support

pytestmark = pytest.mark.sanitizer
READER, WRITER = "reader-0123456789abcdef", "writer-0123456789abcdef"


def a_batch():
    return agg.make_batch([("t", ("main", "f"), 1, 10)], agg.now_ns() - agg.SECOND)


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# who may come\n{READER} read dashboards\n{WRITER} write agents\n")
    path.chmod(0o600)
    return path


def grpc_outcomes(server, token):
    """{method: status} of every method with that token."""
    with agg.Client(server.channel(), token) as client:
        m = client.messages
        requests = {
            "Push": client.request("a", 1, agg.pack(a_batch())),
            "Query": m.QueryRequest(),
            "QueryStorage": m.QueryStorageRequest(selector=client.selector()),
            "Aggregate": m.AggregateRequest(selector=client.selector()),
            "Diff": m.DiffRequest(before=client.selector(), after=client.selector()),
        }
        return {method: client.status(method, request)[0] for method, request in requests.items()}


def health(server, credentials=None):
    """What grpc.health.v1 answers without a token: SERVING is 1, NOT_SERVING 2."""
    with server.channel(credentials) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        return check(b"", timeout=10)


def test_scopes(token_file):
    """Each method with each kind of token, on both ports."""
    with agg.Aggregator("--token-file", token_file) as server:
        none, reads, all_of_it = "UNAUTHENTICATED", "PERMISSION_DENIED", "OK"
        asks = ("Query", "QueryStorage", "Aggregate", "Diff")
        for token in (None, "wrong", READER[:-1], READER + "x", ""):
            assert grpc_outcomes(server, token) == dict.fromkeys(("Push", *asks), none), token
        assert grpc_outcomes(server, READER) == {"Push": reads, **dict.fromkeys(asks, all_of_it)}
        assert grpc_outcomes(server, WRITER) == dict.fromkeys(("Push", *asks), all_of_it)
        assert health(server) == b"\x08\x01"

        for path in ("/healthz", "/readyz"):
            assert server.http("GET", path)[0] == 200, path
        for path in ("/metrics", "/api/health", "/api/agents", "/api/batches"):
            assert server.http("GET", path)[0] == 401, path
            assert server.http("GET", path, token="wrong")[0] == 401, path
            assert server.http("GET", path, token=READER)[0] == 200, path
            assert server.http("GET", path, token=WRITER)[0] == 200, path
        status, _, body = server.http("POST", "/api/import", body=b"x", token=READER)
        assert status == 403 and "code" in json.loads(body)["error"]
        assert server.http("POST", "/api/import", body=b"x", token="")[0] == 401
        assert server.http("POST", "/api/import", body=b"x", token=WRITER)[0] == 400

        imported = server.http("POST", "/api/import?format=collapsed&kind=cpu", body=b"main;f 3\nmain;g 4\n", token=WRITER)
        assert imported[0] == 200, imported
        with agg.Client(server.channel(), READER) as client:
            rows = {(row.function, row.module): row.self_count for row in client.aggregate().functions}
            assert rows["g", ""] == 4 and rows["f", ""] == 3 and rows["f", "/usr/bin/program"] == 1
        log = server.log()
        assert re.search(r"audit: POST /api/import from \S+, token agents: imported a profile", log), log
        assert re.search(r"audit: refused /aperture.v1.Aggregator/Push from ipv4:127.0.0.1:\d+, token dashboards: "
                         r"the token may only read", log)
        assert "token -: no bearer token" in log and "token -: unknown token" in log
        assert READER not in log and WRITER not in log


def test_one_token_from_the_environment():
    with agg.Aggregator(token=WRITER) as server:
        assert set(grpc_outcomes(server, WRITER).values()) == {"OK"}
        assert set(grpc_outcomes(server, None).values()) == {"UNAUTHENTICATED"}
        assert server.http("GET", "/api/batches")[0] == 200
        assert server.http("GET", "/api/batches", token="other")[0] == 401


def test_reload(token_file):
    """SIGHUP reads the file again; a bad one changes nothing and is said."""
    with agg.Aggregator("--token-file", token_file) as server:

        def outcome(token):
            return grpc_outcomes(server, token)["Query"]

        token_file.write_text("another-0123456789abcdef read\n")
        assert outcome(READER) == "OK"
        os.kill(server.pid, signal.SIGHUP)
        support.wait_until(lambda: "tokens were read again, there are 1" in server.log(), what="the reload")
        assert outcome(READER) == "UNAUTHENTICATED" and outcome("another-0123456789abcdef") == "OK"
        token_file.write_text("another-0123456789abcdef everything\n")
        os.kill(server.pid, signal.SIGHUP)
        support.wait_until(lambda: "the tokens from before stay" in server.log(), what="the refusal")
        assert outcome("another-0123456789abcdef") == "OK"
        token_file.write_text(f"{READER} read\n")
        token_file.chmod(0o644)
        os.kill(server.pid, signal.SIGHUP)
        support.wait_until(lambda: "chmod 600" in server.log(), what="the refusal")
        assert outcome(READER) == "UNAUTHENTICATED"
        metrics = agg.parse_metrics(server.http("GET", "/metrics", token="another-0123456789abcdef")[2].decode())
        assert metrics['aperture_token_reloads_total{status="ok"}'] == 1
        assert metrics['aperture_token_reloads_total{status="failed"}'] == 2


def test_flood_of_refused_calls(token_file):
    """The log does not grow with the calls; all are counted."""
    with agg.Aggregator("--token-file", token_file) as server:
        for _ in range(60):
            assert set(grpc_outcomes(server, "guess").values()) == {"UNAUTHENTICATED"}
        lines = server.log().count("audit: refused")
        assert 10 <= lines < 60
        metrics = agg.parse_metrics(server.http("GET", "/metrics", token=READER)[2].decode())
        assert metrics["aperture_audit_refused_total"] == 300
        assert metrics["aperture_audit_suppressed_total"] == 300 - lines


def refused(*args, env=()):
    """What the program says when it does not start, and its exit status."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APERTURE_")}
    done = subprocess.run(
        [str(word) for word in (agg.PROGRAM, "--storage", "memory", *args)],
        env=environment | dict(env), capture_output=True, text=True, timeout=60,
    )
    assert not support.CRASH.search(done.stderr), done.stderr
    return done.returncode, done.stderr


def listening(pid):
    """Local addresses that the process listens on (TCP over IPv4), as hexadecimal."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        match = re.fullmatch(r"socket:\[(\d+)\]", target)
        inodes |= {match[1]} if match else set()
    rows = [line.split() for line in support.read(f"/proc/{pid}/net/tcp").splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_loopback_without_a_token(tmp_path):
    """Nobody else gets in by default; an address of the network has to be meant."""
    assert refused("--listen", "0.0.0.0:0")[0] == 2
    rc, words = refused("--admin-listen", "0.0.0.0:0", "--listen", "127.0.0.1:0")
    assert rc == 2 and "without a token" in words and "--insecure" in words
    rc, _ = refused(env={"APERTURE_ADMIN_LISTEN": "0.0.0.0:0", "APERTURE_AGGREGATOR_LISTEN": "127.0.0.1:0"})
    assert rc == 2
    with agg.Aggregator("--insecure", "--listen", "0.0.0.0:0", "--admin-listen", "0.0.0.0:0") as server:
        assert listening(server.pid) == {"00000000"}
        assert "everybody who can connect may read and write" in server.log()
    with agg.Aggregator("--listen", "0.0.0.0:0", "--admin-listen", "0.0.0.0:0", token=WRITER) as server:
        assert listening(server.pid) == {"00000000"}
        assert "plain text" in server.log()


def test_default_addresses(tool):
    """The ports of the documentation, in a network namespace where they are free."""
    with agg.Aggregator("--listen=", "--admin-listen=", program=("unshare", "-n", agg.PROGRAM)) as server:
        assert (server.port, server.http_port) == ("50051", "9090")
        assert "no token: answering on this machine only" in server.log()
        assert listening(server.pid) == {"0100007F"}


@pytest.mark.parametrize(
    ("args", "words"),
    (
        (("--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"), "/nowhere.pem"),
        (("--token-file", "/nowhere"), "/nowhere"),
        (("--listen", "127.0.0.1:1", "--admin-listen", "192.0.2.1:1", "--insecure"), "192.0.2.1:1"),
    ),
    ids=("certificate", "tokens", "address"),
)
def test_does_not_start(args, words):
    args = args if "--listen" in args else ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *args)
    rc, said = refused(*args)
    assert rc == 1 and words in said, said


def test_port_in_use():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        for args in (("--listen", taken, "--admin-listen", "127.0.0.1:0"),
                     ("--listen", "127.0.0.1:0", "--admin-listen", taken)):
            rc, said = refused(*args)
            assert rc == 1 and taken in said, said


# ---- TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """An authority, certificates of a server and of a client from it, and a client's from another one."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=folder)

    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for authority in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{authority}.key", "-out",
                f"{authority}.pem", "-days", "2", "-subj", f"/CN={authority}")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                "-CAcreateserial", "-days", "2", "-out", f"{name}.pem", "-extfile", "names")
    return folder


def credentials(pki, name=None):
    pair = [(pki / f"{name}{ending}").read_bytes() for ending in (".key", ".pem")] if name else [None, None]
    return grpc.ssl_channel_credentials((pki / "ca.pem").read_bytes(), *pair)


def https(server, pki, name=None):
    """Status of a request, or the name of what the connection failed with."""
    context = ssl.create_default_context(cafile=pki / "ca.pem")
    if name:
        context.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key")
    try:
        return server.http("GET", "/api/batches", context=context)[0]
    except (ssl.SSLError, ConnectionError) as error:
        return type(error).__mro__[-3 if isinstance(error, ConnectionError) else 0].__name__ and "refused"


def over_tls(server, pki, name=None):
    with agg.Client(server.channel(credentials(pki, name)), server.token) as client:
        return client.push_status("a", 1, a_batch(), timeout=10)[0]


def test_tls(pki):
    with agg.Aggregator("--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key", token=WRITER) as server:
        assert server.scheme == "https"
        assert over_tls(server, pki) == "OK"
        assert https(server, pki) == 200
        with agg.Client(server.channel(credentials(pki)), "wrong") as client:
            assert client.push_status("a", 2, a_batch())[0] == "UNAUTHENTICATED"
        with server.client() as client:  # plain text
            assert client.push_status("a", 2, a_batch(), timeout=5)[0] == "UNAVAILABLE"
        assert health(server, credentials(pki)) == b"\x08\x01"


def test_mutual_tls(pki):
    args = ("--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key", "--tls-ca", pki / "ca.pem")
    with agg.Aggregator(*args, token=WRITER) as server:
        assert over_tls(server, pki, "client") == "OK"
        assert https(server, pki, "client") == 200
        for name in (None, "stranger"):
            assert over_tls(server, pki, name) == "UNAVAILABLE"
            assert https(server, pki, name) in ("refused", 401, 403)
