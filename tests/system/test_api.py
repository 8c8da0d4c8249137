# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The HTTP API against docs/openapi.yaml: every endpoint, every error, by a client that knows nothing of ours."""
import collections
import concurrent.futures
import copy
import json
import subprocess

import openapi_spec_validator
import pytest

import support
from api import BINARY, RANGE, SERVER, START_NS, Server, Spec, document, pprof, read_columns

pytestmark = pytest.mark.sanitizer


@pytest.fixture(scope="module")
def spec():
    return Spec()


@pytest.fixture(scope="module")
def server():
    with Server() as one:
        one.load(json.dumps(document()), "application/json", **{"label.team": "blue"})
        one.load(pprof(), "application/octet-stream", host="web-2", service="worker")
        yield one
        assert not support.CRASH.search(one.stop().err)


def paths(one):
    """The paths of the document that a path of the server's table stands for."""
    if one == "/api/export/*":
        return [f"/api/export/{name}" for name in ("json", "collapsed", "pprof", "speedscope", "svg")]
    return [one.replace("*", "{name}")]


def test_document_is_valid(spec):
    openapi_spec_validator.validate(spec.document)


def test_document_and_server_have_the_same_endpoints(spec):
    routes = json.loads(subprocess.run([SERVER, "--routes"], capture_output=True, check=True).stdout)
    known = {(path, method): operation for path, method, operation in spec.operations()}
    served = {}
    for route in routes:
        for path in paths(route["path"]):
            served[path, route["method"]] = route
    assert known.keys() == served.keys()
    for key, operation in known.items():
        names = {one["name"] for one in spec.parameters(operation) if one["in"] == "query"}
        if key[0] == "/api/import":  # labels to set, not to find: those an agent may have
            names |= {"comm", "pid", "exe", "container", "agent"}
        assert names == set(served[key]["params"]), key
        assert (operation.get("security") == []) == served[key]["open"], key
        content = operation["responses"]["200"]["content"]
        assert set(content) <= {one.partition(";")[0] for one in served[key]["types"].split(",")}, key


def fill(path):
    return path.replace("{name}", "comm")


def ask_operation(server, path, method, params=None, **options):
    if path == "/api/import":
        return server.ask(path, "POST", "a;b 1", {"Content-Type": "text/plain", **options.get("headers", {})}, params)
    if method == "post":
        return server.post(path, {}, params=params, **options)
    return server.ask(fill(path), params=params, **options)


def test_every_endpoint_answers_as_documented(spec, server):
    for path, method, operation in spec.operations():
        names = {one["name"] for one in spec.parameters(operation)}
        answer = ask_operation(server, path, method, RANGE if "from" in names else None)
        assert answer.status == 200, (path, answer.body)
        spec.check(path, method, answer)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_every_endpoint_takes_its_parameters(spec, server):
    values = {
        **RANGE, "since": RANGE["from"], "max_nodes": "5", "limit": "30", "step": "1s", "by": "comm",
        "path": "app", "match": '{comm=~"a.*"}', "label.NAME": None, "baseline_from": RANGE["from"],
        "baseline_to": RANGE["to"], "kind": "cpu", "event_type": "cpu", "source": "storage", "time": "1h ago",
        "duration": "10s", "period": "10ms", "host": "web-1",
    }  # fmt: skip
    for path, method, operation in spec.operations():
        for one in spec.parameters(operation):
            name = one["name"]
            if one["in"] != "query":
                continue
            params = dict(RANGE) if "from" in {other["name"] for other in spec.parameters(operation)} else {}
            if name == "since":
                del params["from"]
            value = "json" if name == "format" and "export" not in path else values.get(name, "x")
            if path == "/api/import" and name == "format":
                value = "collapsed"
            params["label.team" if name == "label.NAME" else name] = "blue" if name == "label.NAME" else value
            answer = ask_operation(server, path, method, params)
            spec.check(path, method, answer)
            assert answer.status in (200, 404), (path, name, answer.body)
            if answer.status == 404:  # nothing of that label has such a node, or stacks to export
                assert name == "path" or "export" in path, (path, name)


def error_of(spec, answer, path, method, status, code):
    assert answer.status == status, answer.body
    spec.check(path, method, answer)
    error = answer.json["error"]
    assert error["code"] == code and error["message"]
    return error["message"]


def test_unknown_parameters_name_the_nearest(spec, server):
    for path, method, operation in spec.operations():
        answer = ask_operation(server, path, method, {"xyzzy": "1"})
        assert "xyzzy" in error_of(spec, answer, path, method, 400, "invalid_argument")
    nearest = {"kinds": "kind", "max_node": "max_nodes", "sinse": "since", "fuction": "function", "servce": "service"}
    for wrong, right in nearest.items():
        answer = server.ask("/api/flamegraph", params={wrong: "1"})
        assert f"did you mean {right}?" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "params, word",
    [
        ({"kind": "disk"}, "offcpu"),
        ({"from": "yesterday"}, "yesterday"),
        ({"from": "2h ago", "to": "3h ago"}, "empty"),
        ({"from": "1h ago", "since": "1h"}, "since"),
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1e9"}, "limit"),
        ({"match": '{host="'}, "match"),
        ({"function_regex": "("}, "("),
        ({"function": "a", "function_regex": "b"}, "function"),
        ({"label.1x": "a"}, "1x"),
        ([("limit", "1"), ("limit", "2")], "twice"),
        ({"host": "x" * 2000}, "1024"),
        ([(f"label.l{i}", "x") for i in range(40)], "32"),
    ],
)
def test_wrong_values_are_refused_with_words(spec, server, params, word):
    answer = server.ask("/api/top", params=params)
    assert answer.status == 400, answer.body
    spec.check("/api/top", "get", answer)
    assert word in answer.json["error"]["message"]


def test_broken_addresses(server):
    for path in ("/api/top?limit=%zz", "/api/top?limit=%", "/api/top%00", "/api/labels/%00/values"):
        assert server.ask(path).status == 400
    for path in ("/api", "/api/", "/api/nothing", "/api/export/exe", "/api/export/", "/api/labels//values", "/api/top/"):
        answer = server.ask(path)
        assert answer.status == 404 and answer.json["error"]["code"] == "not_found", path
    many = "/api/top?" + "&".join("match=a" for _ in range(300))
    assert server.ask(many).status == 400


def test_methods(spec, server):
    for path, method, _ in spec.operations():
        wrong = "POST" if method == "get" else "GET"
        answer = server.ask(fill(path), wrong)
        assert answer.status == 405, path
        spec.check(path, method, answer)
        allowed = {"get": "GET, HEAD, OPTIONS", "post": "POST, OPTIONS"}[method]
        assert answer.headers["Allow"] == allowed
        for other in ("PUT", "DELETE", "PATCH", "TRACE"):
            assert server.ask(fill(path), other).status == 405
        answer = server.ask(fill(path), "OPTIONS")
        assert (answer.status, answer.headers["Allow"], answer.body) == (204, allowed, b"")
        assert "Access-Control-Allow-Methods" not in answer.headers


def test_head_has_the_headers_of_get(server):
    for path in ("/healthz", "/api/top", "/api/nothing"):
        get, head = server.ask(path), server.ask(path, "HEAD")
        assert head.status == get.status and head.body == b""
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
        assert abs(int(head.headers["Content-Length"]) - len(get.body)) < 20  # the time is in it


def test_accept(spec, server):
    for path, method, operation in spec.operations():
        answer = ask_operation(server, path, method, headers={"Accept": "application/xml"})
        if path == "/api/import":
            assert answer.status == 406
        error_of(spec, answer, path, method, 406, "not_acceptable")
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    assert server.ask("/api/top", headers={"Accept": browser}).status == 200
    assert server.ask("/api/top", headers={"Accept": "application/*;q=0.5"}).status == 200
    assert server.ask("/api/top", headers={"Accept": "application/json;q=0, */*"}).status == 406


def test_compression(server):
    plain = server.ask("/api/flamegraph", params=RANGE)
    assert "Content-Encoding" not in plain.headers and "Accept-Encoding" in plain.headers["Vary"]
    for coding in ("gzip", "deflate"):
        packed = server.ask("/api/flamegraph", params=RANGE, headers={"Accept-Encoding": coding})
        assert packed.headers["Content-Encoding"] == coding and len(packed.raw) < len(plain.raw) / 2
        assert packed.json["root"] == plain.json["root"]
    zstd = server.ask("/api/flamegraph", params=RANGE, headers={"Accept-Encoding": "gzip;q=0.5, zstd, br"})
    assert zstd.headers["Content-Encoding"] == "zstd" and zstd.raw[:4] == b"\x28\xb5\x2f\xfd"
    small = server.ask("/healthz", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers
    none = server.ask("/api/flamegraph", params=RANGE, headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in none.headers


# What is in the answers ------------------------------------------------------------------------------------------------


def below(root):
    todo = [(root, ())]
    while todo:
        one, path = todo.pop()
        yield one, path
        todo += [(child, (*path, child["name"])) for child in one["children"]]


def test_flamegraph_is_the_imported_tree(server):
    tree = server.ask("/api/flamegraph", params={**RANGE, "host": "web-1"}).json
    assert (tree["root"]["value"], tree["root"]["samples"], tree["truncated"]) == (10**9, 100, False)
    sums = {path: (one["value"], one["self"], one["samples"], one["kind"]) for one, path in below(tree["root"])}
    wanted = document()["profiles"][0]["root"]
    assert sums == {path: (one["value"], one["self"], one["samples"], one["kind"]) for one, path in below(wanted)}
    provenance = tree["provenance"]
    assert (provenance["samples"], provenance["value"], provenance["batches"]) == (100, 10**9, 1)
    assert provenance["account"]["lost"] == 5 and provenance["account"]["losses"]["ring_full"] == 3
    assert provenance["newest_ns"] == START_NS + 10**10


def test_what_max_nodes_cuts_is_exact_and_can_be_asked_for(server):
    params = {**RANGE, "host": "web-1"}
    tree = server.ask("/api/flamegraph", params={**params, "max_nodes": 8}).json
    assert tree["truncated"] and tree["root"]["value"] == 10**9
    cut = 0
    for one, path in below(tree["root"]):
        assert one["value"] == one["self"] + sum(child["value"] for child in one["children"])
        marks = [child for child in one["children"] if child.get("truncated")]
        assert len(marks) <= 1
        if not marks or not path:
            continue
        cut += 1
        whole = server.ask("/api/flamegraph", params=[*params.items(), *(("path", name) for name in path)]).json
        assert not whole["truncated"]
        nodes = [node for node, _ in below(whole["root"]) if node["name"] == one["name"] and node["value"] == one["value"]]
        assert nodes, path
        shown = {child["name"] for child in one["children"] if not child.get("truncated")}
        assert marks[0]["value"] == sum(child["value"] for child in nodes[0]["children"] if child["name"] not in shown)
    assert cut
    answer = server.ask("/api/flamegraph", params=[*params.items(), ("path", "app"), ("path", "nothing")])
    assert answer.status == 404 and answer.json["error"]["code"] == "not_found"


def test_binary_columns_say_the_same(server):
    params = {**RANGE, "max_nodes": 9}
    tree = server.ask("/api/flamegraph", params=params).json
    by_accept = server.ask("/api/flamegraph", params=params, headers={"Accept": f"{BINARY}, application/json;q=0.5"})
    by_format = server.ask("/api/flamegraph", params={**params, "format": "binary"})
    assert by_accept.type == by_format.type == BINARY
    assert len(by_format.body) < len(json.dumps(tree))
    for answer in (by_accept, by_format):
        meta, nodes = read_columns(answer.body)
        assert meta["provenance"] == tree["provenance"] and meta["kind"] == "cpu" and meta["truncated"]
        paths = []
        for i, one in enumerate(nodes):
            assert one["parent"] < i or i == 0
            paths.append(() if i == 0 else (*paths[one["parent"]], one["name"]))
        flat = {path: (one["value"], one["self"], one["samples"]) for one, path in below(tree["root"])}
        assert flat == {path: (one["value"], one["self"], one["count"]) for path, one in zip(paths, nodes)}
        cut = {path for path, one in zip(paths, nodes) if one["flags"] & 4}
        assert cut == {path for one, path in below(tree["root"]) if one.get("truncated")}
    assert server.ask("/api/flamegraph", params={"format": "xml"}).status == 400


def test_filters(server):
    def total(**params):
        answer = server.ask("/api/flamegraph", params={**RANGE, **params})
        assert answer.status == 200, answer.body
        return answer.json["root"]["samples"]

    assert total() == 160
    assert total(host="web-1") == 100 and total(host="web-2") == 60 and total(host="nobody") == 0
    assert total(service="worker") == 60 and total(comm="app") == 70 and total(**{"label.team": "blue"}) == 100
    assert total(match='{host=~"web-.*",comm!="other"}') == 130
    assert total(function="leaf") == 55 and total(function_regex="^(work|wait)$") == 50
    assert total(kind="offcpu") == 0 and total(event_type="lock") == 4
    early = {"from": RANGE["from"], "to": str(int(RANGE["from"]) + 1)}
    assert server.ask("/api/flamegraph", params=early).json["root"]["samples"] == 0


def test_top(server):
    top = server.ask("/api/top", params={**RANGE, "host": "web-2", "limit": 2}).json
    assert [(row["function"], row["self_count"], row["total_count"]) for row in top["functions"]] == [
        ("work", 30, 30),
        ("wait", 20, 20),
    ]
    assert top["function_total"] == 3 and top["functions"][0]["module"] == "/usr/bin/worker"


def test_aggregate_and_diff(spec, server):
    selector = {"kind": "cpu", **RANGE, "labels": {"host": "web-2"}, "match": ['{comm="worker"}']}
    answer = server.post("/api/aggregate", {**selector, "limit": 10, "max_nodes": 100})
    assert answer.status == 200, answer.body
    spec.check("/api/aggregate", "post", answer)
    assert answer.json["root"]["samples"] == 60 and len(answer.json["functions"]) == 3
    for kind, table in (("lock", "locks"), ("syscall", "syscalls")):
        answer = server.post("/api/aggregate", {**selector, "kind": kind, "labels": {}, "match": None})
        spec.check("/api/aggregate", "post", answer)
        assert len(answer.json[table]) == 1 and answer.json[table][0]["total_ns"] == 4000
    both = {"kind": "cpu", **RANGE, "before": {**RANGE, "host": "web-1"}, "after": {"host": "web-2"}}
    answer = server.post("/api/diff", both)
    assert answer.status == 200, answer.body
    spec.check("/api/diff", "post", answer)
    assert (answer.json["before"]["samples"], answer.json["after"]["samples"]) == (100, 60)
    changes = {row["function"]: row for row in answer.json["functions"]}
    assert changes["work"]["self_before"] == 0 and changes["work"]["self_after"] == 30 * 10**7
    assert changes["work"]["self_change"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "body, word",
    [
        ("", None),
        ("[]", "object"),
        ("{", "not JSON"),
        ('{"kind":"cpu"', "not JSON"),
        ('{"limits":3}', "did you mean limit?"),
        ('{"limit":"x"}', "limit"),
        ('{"limit":{}}', "limit"),
        ('{"labels":[]}', "labels"),
        ('{"labels":{"a b":"x"}}', "a b"),
        ("[" * 5000, "deep"),
    ],
)
def test_bodies(spec, server, body, word):
    answer = server.ask("/api/aggregate", "POST", body, {"Content-Type": "application/json"})
    spec.check("/api/aggregate", "post", answer)
    assert answer.status == (200 if word is None else 400)
    assert word is None or word in answer.json["error"]["message"]


def test_body_types(spec, server):
    answer = server.ask("/api/aggregate", "POST", "kind=cpu", {"Content-Type": "text/plain"})
    error_of(spec, answer, "/api/aggregate", "post", 415, "unsupported_media_type")
    answer = server.ask("/api/import", "POST", "x", {"Content-Type": "image/png"})
    error_of(spec, answer, "/api/import", "post", 415, "unsupported_media_type")
    answer = server.ask("/api/diff", "POST", "{}", {"Content-Encoding": "gzip"})
    error_of(spec, answer, "/api/diff", "post", 415, "unsupported_media_type")
    big = {"match": "x" * (1 << 20)}
    error_of(spec, server.post("/api/aggregate", big), "/api/aggregate", "post", 413, "body_too_large")
    for path, method, _ in spec.operations():
        if method == "get":
            answer = server.ask(fill(path), "GET", body="x")
            error_of(spec, answer, path, method, 413, "body_too_large")


def test_timeline_and_heatmap(server):
    timeline = server.ask("/api/timeline", params={**RANGE, "by": "host", "step": "10s"}).json
    assert timeline["step_ns"] == 10**10 and timeline["by"] == "host"
    assert {one["name"]: sum(one["count"]) for one in timeline["series"]} == {"web-1": 100, "web-2": 60}
    for one in timeline["series"]:
        assert len(one["t_ns"]) == len(one["count"]) == len(one["value"])
        assert all(t % 10**10 == 0 for t in one["t_ns"])
    assert server.ask("/api/timeline", params={**RANGE, "step": "7ms"}).status == 400
    heatmap = server.ask("/api/heatmap", params=RANGE).json
    assert sum(sum(column["counts"]) for column in heatmap["columns"]) == 160
    assert heatmap["slot_ns"] * 50 == 10**9
    answer = server.ask("/api/heatmap", params={"since": "3h"})
    assert (answer.status, answer.json["error"]["code"]) == (400, "too_large")


def test_tables(server):
    locks = server.ask("/api/locks", params=RANGE).json
    assert locks["lock_total"] == 1
    row = locks["locks"][0]
    assert (row["symbol"], row["type"], row["waits"], row["host"]) == ("queue", "mutex", 4, "web-1")
    assert row["waiters"][0]["site"] == "push" and sum(one["count"] for one in row["histogram"]) == 4
    calls = server.ask("/api/syscalls", params=RANGE).json
    row = calls["syscalls"][0]
    assert (row["name"], row["count"], row["errors"]) == ("openat", 4, {"ENOENT": 1, "EACCES": 1})


def test_catalog(server):
    assert {"agent", "comm", "host", "service", "team"} <= set(server.ask("/api/labels", params=RANGE).json["labels"])
    assert server.ask("/api/labels/host/values", params=RANGE).json["values"] == ["web-1", "web-2"]
    assert server.ask("/api/labels/no+label/values").status == 400
    series = server.ask("/api/series", params={**RANGE, "service": "worker"}).json["series"]
    assert {"host": "web-2", "service": "worker", "comm": "worker", "agent": "import"} in series
    agents = server.ask("/api/agents").json["agents"]
    assert [one["agent_id"] for one in agents] == ["import"] and agents[0]["batches"] >= 2
    for source in ("memory", "storage"):
        batches = server.ask("/api/batches", params={"source": source, "host": "web-1"}).json["batches"]
        kinds = [[(one["kind"], one["events"]) for one in batch["kinds"]] for batch in batches]
        assert any(("cpu", 100) in batch and len(batch) == 3 for batch in kinds), kinds


# Export and import -----------------------------------------------------------------------------------------------------


def test_exports(server, tmp_path):
    params = {**RANGE, "host": "web-1"}
    tree = document()["profiles"][0]["root"]
    json_path, pprof_path = tmp_path / "x.json", tmp_path / "x.pb.gz"
    answer = server.ask("/api/export/json", params=params)
    assert 'filename="aperture.cpu.json"' in answer.headers["Content-Disposition"]
    json_path.write_bytes(answer.body)
    assert support.Document(json_path).root["samples"] == 100
    pprof_path.write_bytes(server.ask("/api/export/pprof", params=params).body)
    assert support.Pprof(pprof_path).total(1) == tree["value"]
    lines = server.ask("/api/export/collapsed", params=params).body.decode().splitlines()
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == 100
    scope = server.ask("/api/export/speedscope", params=params).json
    one = scope["profiles"][0]
    assert sum(one["weights"]) == one["endValue"] == 10**9
    frames = [frame["name"] for frame in scope["shared"]["frames"]]
    stacks = collections.Counter()
    for stack, weight in zip(one["samples"], one["weights"]):
        stacks[tuple(frames[i] for i in stack)] += weight
    assert stacks["app", "main", "sys_read"] == 5 * 10**7
    svg = server.ask("/api/export/svg", params=params)
    assert svg.body.startswith(b"<?xml") and "sandbox" in svg.headers["Content-Security-Policy"]
    assert server.ask("/api/export/svg", params={**RANGE, "kind": "gpu"}).status in (200, 404)


@pytest.mark.parametrize("form", ["json", "pprof", "collapsed"])
def test_what_is_exported_imports_to_the_same_sums(form):
    with Server() as server:
        for i, host in enumerate(("one", "two")):
            body = json.dumps(document()) if i == 0 else exported
            server.load(body, host=host, format=("json", form)[i], kind="cpu", time=str(START_NS / 1e9), period="10ms")
            params = {**RANGE, "host": host}
            exported = server.ask(f"/api/export/{form}", params=params).body
        trees = [server.ask("/api/flamegraph", params={**RANGE, "host": host}).json for host in ("one", "two")]
        sums = [{path: (one["value"], one["samples"]) for one, path in below(tree["root"])} for tree in trees]
        assert sums[0] == sums[1] and sums[0][()] == (10**9, 100)


def test_import_says_what_it_stored(spec, server):
    answer = server.ask("/api/import", "POST", "app;main;leaf 7\n", {"Content-Type": "text/plain"}, {
        "kind": "offcpu", "time": "2026-01-01T00:00:00Z", "duration": "5s", "host": "h", "label.a": "b"})  # fmt: skip
    spec.check("/api/import", "post", answer)
    said = answer.json
    assert said["profiles"] == [{"kind": "offcpu", "samples": 1, "value": 7000}]
    assert said["labels"] == {"host": "h", "a": "b"} and said["duration_ns"] == 5 * 10**9
    assert server.load("x;y 1\n")["sequence"] == said["sequence"] + 1


@pytest.mark.parametrize(
    "body, kind, word",
    [
        (b"", "text/plain", "no bytes"),
        (b"no number", "text/plain", "line 1"),
        (b"a;b 1\na;b x\n", "text/plain", "line 2"),
        (b"a;b 99999999999999999999\n", "text/plain", "too large"),
        (b"{}", "application/json", "schema"),
        (b'{"schema":2,"profiles":[]}', "application/json", "schema"),
        (b'{"schema":1,"profiles":[]}', "application/json", "no profile"),
        (b'{"schema":1,"profiles":[{"kind":"x"}]}', "application/json", "kind"),
        (b'{"schema":1,"profiles":[', "application/json", "not JSON"),
        (b"\x1f\x8bxxxx", "application/gzip", "gzip"),
        (pprof()[:-20], "application/octet-stream", "gzip"),
        (b"\x00\x01\x02", "application/octet-stream", "pprof"),
    ],
)
def test_imports_that_cannot_be(spec, server, body, kind, word):
    answer = server.ask("/api/import", "POST", body, {"Content-Type": kind})
    assert word in error_of(spec, answer, "/api/import", "post", 400, "invalid_argument")


def test_import_bombs(spec, server):
    import gzip as gz

    bomb = gz.compress(b"a;b 1\n" * (40 << 20), 9)
    answer = server.ask("/api/import", "POST", bomb)
    assert "unpacked" in error_of(spec, answer, "/api/import", "post", 400, "too_large")
    deep = copy.deepcopy(document())
    node = deep["profiles"][0]["root"]
    node["children"] = [{"name": "x", "kind": "native", "samples": 1, "self": 0, "value": 1, "children": []}]
    for _ in range(600):
        node = node["children"][0]
        node["children"] = [dict(node, children=[])]
    answer = server.ask("/api/import", "POST", json.dumps(deep), {"Content-Type": "application/json"})
    error_of(spec, answer, "/api/import", "post", 400, "too_large")


# Access ----------------------------------------------------------------------------------------------------------------


def test_tokens(spec):
    with Server("--token", "secret", "--read-token", "peek") as server:
        for path, method, operation in spec.operations():
            answer = ask_operation(server, path, method)
            if operation.get("security") == []:
                assert answer.status == 200
                continue
            error_of(spec, answer, path, method, 401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            wrong = ask_operation(server, path, method, headers={"Authorization": "Bearer nothing"})
            assert wrong.status == 401
            full = ask_operation(server, path, method, headers={"Authorization": "Bearer secret"})
            assert full.status in (200, 404), (path, full.body)
        answer = ask_operation(server, "/api/import", "post", headers={"Authorization": "Bearer peek"})
        error_of(spec, answer, "/api/import", "post", 403, "permission_denied")
        assert server.ask("/api/top", headers={"Authorization": "Bearer peek"}).status == 200
        server.popen.terminate()
        counts = json.loads(server.wait().out)
        assert counts["refused_auth"] > 20 and counts["audited"] == 1


def test_other_sites_may_not_post(spec, server):
    headers = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    answer = server.ask("/api/import", "POST", "a;b 1", headers)
    error_of(spec, answer, "/api/import", "post", 403, "cross_origin")
    own = {"Origin": f"http://127.0.0.1:{server.port}", "Content-Type": "text/plain"}
    assert server.ask("/api/import", "POST", "a;b 1", own).status == 200


def test_readiness(spec):
    with Server() as server:
        assert server.ask("/readyz").status == 200 and server.ask("/api/health").json["status"] == "ok"
        server.popen.send_signal(support.signal.SIGUSR1)
        support.wait_until(lambda: server.ask("/readyz").status == 503, what="not ready")
        answer = server.ask("/readyz")
        error_of(spec, answer, "/readyz", "get", 503, "not_ready")
        assert server.ask("/healthz").status == 200
        answer = server.ask("/api/health")
        spec.check("/api/health", "get", answer)
        assert answer.json["status"] == "degraded" and "storage" in answer.json["reason"]


def test_full_queue_is_said(spec):
    with Server("--workers", "1", "--delay", "1s", "--grace", "1s") as server:
        with concurrent.futures.ThreadPoolExecutor(80) as pool:
            jobs = [pool.submit(server.ask, "/api/batches") for _ in range(80)]
            done, _ = concurrent.futures.wait(jobs, return_when=concurrent.futures.FIRST_COMPLETED)
            first = next(iter(done)).result()
            if first.status == 429:
                error_of(spec, first, "/api/batches", "get", 429, "too_many_requests")
            assert server.ask("/healthz").status == 200  # nobody waits for the queue
            assert server.ask("/metrics").status == 200
            server.popen.terminate()  # what waits is answered too
            statuses = collections.Counter(job.result().status for job in jobs)
        assert statuses[429] >= 80 - 64 - 1 - 2 and statuses[200] >= 1 and statuses[503] > 0
        assert sum(statuses.values()) == 80
