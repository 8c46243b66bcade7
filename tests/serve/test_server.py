"""The server's routes: what each does, who may use it, and what it says of bad input."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import stat
import tempfile
import threading
import time

import pytest
from serving import Client, key, served

from extmem import Memory

JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    memory = tmp_path_factory.mktemp("served") / "m"
    with Memory(memory) as handle:
        handle.store("apple", "A fruit", metadata={"colour": "red"})
        handle.namespace("alice").store("job", "cook")
    with served(memory, "--body", "100000") as running:
        yield running


@pytest.fixture(scope="module")
def root(server):
    return Client(server.port, key(server.folder))


@pytest.fixture(scope="module")
def alice(server):
    return Client(server.port, key(server.folder, "alice", may="write"))


def test_a_record_comes_back_as_it_was_stored(root):
    said = {"value": {"a": [1, "ü"]}, "metadata": {"m": 1}, "trust": 0.5, "author": "me"}
    assert root.ask("PUT", "/v1/records/x/%C3%BC", said).json == {"key": "x/ü", "version": 1}
    found = root.ask("GET", "/v1/records/x/%C3%BC").json
    assert {name: found[name] for name in said} == said
    assert root.ask("DELETE", "/v1/records/x/%C3%BC").json["forgotten"] is True
    assert root.ask("GET", "/v1/records/x/%C3%BC").status == 404
    assert root.ask("DELETE", "/v1/records/x/%C3%BC").status == 404


def test_bytes_stand_as_base64(root):
    said = {"bytes": base64.b64encode(b"\0\xff").decode()}
    assert root.ask("PUT", "/v1/records/raw", said).status == 200
    assert root.ask("GET", "/v1/records/raw").json["bytes"] == said["bytes"]
    assert root.ask("PUT", "/v1/records/raw", {"bytes": "?"}).status == 400
    assert root.ask("PUT", "/v1/records/raw", {"value": "half \ud800"}).status == 400


def test_a_version_that_is_not_expected_is_a_conflict(root):
    assert root.ask("PUT", "/v1/records/v", {"value": "one", "expect": 0}).status == 200
    refused = root.ask("PUT", "/v1/records/v", {"value": "two", "expect": 0})
    assert (refused.status, refused.json["error"]["type"]) == (409, "VersionConflict")
    assert root.ask("GET", "/v1/records/v").json["value"] == "one"


def test_a_record_expires_and_a_moment_can_be_asked_for(root):
    assert root.ask("PUT", "/v1/records/gone", {"value": 1, "ttl": 0.05}).status == 200
    time.sleep(0.1)
    assert root.ask("GET", "/v1/records/gone").status == 404
    for value, since in (("old", 1000.0), ("new", 2000.0)):
        root.ask("PUT", "/v1/records/then", {"value": value, "valid_from": since})
    assert root.ask("GET", "/v1/records/then?as_of=1500").json["value"] == "old"
    assert root.ask("GET", "/v1/records/then?as_of=2026-01-31T12:00Z").json["value"] == "new"
    assert root.ask("GET", "/v1/records/then?as_of=soon").status == 400
    assert [one["value"] for one in root.ask("GET", "/v1/history/then").json["versions"]] == ["old", "new"]


def test_pages_of_a_list_are_the_list(root):
    root.ask("POST", "/v1/store?namespace=pages", {"items": [{"key": f"k{n}", "value": n} for n in range(7)]})
    seen, after = [], ""
    while after is not None:
        page = root.ask("GET", f"/v1/records?namespace=pages&limit=3&prefix=k&after={after}").json
        seen, after = seen + page["keys"], page["next"]
    assert seen == [f"k{n}" for n in range(7)]
    page = root.ask("GET", "/v1/records?namespace=pages&limit=2&values=true").json
    assert [one["value"] for one in page["records"]] == [0, 1]


def test_many_are_stored_read_and_forgotten_together(root):
    items = [{"key": "b1", "value": "one"}, {"key": "b2", "value": "two", "metadata": {"n": 2}}]
    assert root.ask("POST", "/v1/store", {"items": items}).json == {"stored": 2}
    found = root.ask("POST", "/v1/retrieve", {"keys": ["b1", "b2", "none"]}).json["records"]
    assert found == [{"key": "b1", "value": "one"}, {"key": "b2", "value": "two"}]
    assert root.ask("GET", "/v1/records/b2").json["metadata"] == {"n": 2}
    assert root.ask("POST", "/v1/store", {"items": [{"key": "b3", "value": 1}, {"key": "b4"}]}).status == 400
    assert root.ask("GET", "/v1/records/b3").status == 404
    assert root.ask("POST", "/v1/forget", {"keys": ["b1", "b2", "none"]}).json == {"forgotten": 2}


def test_a_search_says_why(root):
    (hit,) = root.ask("POST", "/v1/search", {"query": "fruit", "where": {"metadata.colour": "red"}}).json["hits"]
    assert (hit["key"], hit["value"], hit["words"]) == ("apple", "A fruit", ["fruit"])
    assert hit["parts"]["words"] > 0
    assert root.ask("POST", "/v1/search", {"query": "fruit", "where": {"metadata.colour": "blue"}}).json == {"hits": []}


def test_an_export_is_an_import(root):
    body = root.ask("GET", "/v1/export?namespace=alice").body
    assert [json.loads(line).get("key") for line in body.splitlines()] == [None, "job"]
    assert root.ask("POST", "/v1/import?namespace=copy", body=body).json["records"] == 1
    assert root.ask("GET", "/v1/records/job?namespace=copy").json["value"] == "cook"
    refused = root.ask("POST", "/v1/import?namespace=copy", body=body + b"rubbish\n")
    assert refused.status == 400
    assert tempfile.gettempdir() not in refused.body.decode()
    assert "copy" in root.ask("GET", "/v1/namespaces").json["namespaces"]
    assert root.ask("DELETE", "/v1/namespaces/copy").json == {"namespace": "copy", "forgotten": 1}
    assert root.ask("GET", "/v1/records/job?namespace=copy").status == 404


def test_it_says_what_it_holds_and_how_it_is(root, server):
    assert root.ask("GET", "/v1/stats?namespace=alice").json["records"] == 1
    assert root.ask("GET", "/v1/datastores").json == {"datastores": []}
    stranger = Client(server.port)
    assert stranger.ask("GET", "/healthz").status == stranger.ask("GET", "/readyz").status == 200
    assert stranger.ask("GET", "/metrics").status == 401
    assert b'route="/v1/stats",status="200"' in root.ask("GET", "/metrics").body


# Keys


def test_without_a_key_nothing_is_answered(server, root):
    for path, methods in root.ask("GET", "/openapi.json").json["paths"].items():
        for method in methods:
            if path not in ("/healthz", "/readyz"):
                for wrong in (None, "em_", root.key[:-1] + ("a" if root.key[-1] != "a" else "b"), "ü"):
                    client = Client(server.port)
                    headers = {} if wrong is None else {"Authorization": f"Bearer {wrong}"}
                    answer = client.ask(method.upper(), path, {} if method in ("put", "post") else None, **headers)
                    assert answer.status in (401, 422), (method, path, answer)


def test_a_right_includes_those_below_it_and_no_more(server, root):
    reader = Client(server.port, key(server.folder, may="read"))
    writer = Client(server.port, key(server.folder, may="write"))
    assert reader.ask("GET", "/v1/records/apple").status == writer.ask("GET", "/v1/records/apple").status == 200
    assert reader.ask("PUT", "/v1/records/rights", {"value": 1}).status == 403
    assert reader.ask("POST", "/v1/import", body=b"").status == 403
    assert reader.ask("DELETE", "/v1/records/apple").status == 403
    assert writer.ask("PUT", "/v1/records/rights", {"value": 1}).status == 200
    assert writer.ask("DELETE", "/v1/namespaces/none").status == 403
    assert root.ask("DELETE", "/v1/namespaces/none").status == 200


def test_a_revoked_key_opens_nothing_a_second_later(server):
    from extmem.serve import keys

    client = Client(server.port, key(server.folder))
    assert client.ask("GET", "/v1/records/apple").status == 200
    with Memory(server.folder) as handle:
        assert keys.revoke(handle, client.key.split("_")[1])
        assert not keys.revoke(handle, client.key.split("_")[1])
    time.sleep(1)
    assert client.ask("GET", "/v1/records/apple").status == 401


def test_a_key_is_nowhere_in_the_memory(server, root):
    secret = root.key.split("_", 2)[2].encode()
    kept = b"".join(path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
    assert b"argon2id" in kept
    assert secret not in kept


# Isolation


def test_a_key_begins_in_its_own_namespace(alice):
    alice.ask("PUT", "/v1/records/mine", {"value": "here"})
    assert alice.ask("GET", "/v1/records/mine?namespace=alice").json["value"] == "here"
    assert alice.ask("PUT", "/v1/records/mine?namespace=alice/deep", {"value": "there"}).status == 200
    assert alice.ask("GET", "/v1/namespaces").json == {"namespaces": ["deep"]}
    assert alice.ask("GET", "/v1/records/mine?namespace=alicent").status == 404
    assert alice.ask("GET", "/v1/records/mine?namespace=").status == 404


# Bad input


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b'{"query": "\xff"}', 400),
        (b"[]", 422),
        (b'{"query": 1}', 422),
        (b'{"query": "a", "k": "1"}', 422),
        (b'{"query": "a", "k": 0}', 400),
        (b'{"query": "a", "unknown": 1}', 422),
        (b'{"query": "a", "where": {"x": {"$no": 1}}}', 400),
        (b'{"query": "a", "diversity": 7}', 400),
        (b"[" * 50_000, 400),
        (b'{"query": "' + b"a" * 100_000 + b'"}', 413),
    ],
    ids=range(12),
)
def test_a_bad_body_is_refused_in_one_line(root, body, status):
    answer = root.ask("POST", "/v1/search", body=body, **JSON)
    assert answer.status == status, answer
    error = answer.json["error"]
    assert set(error) == {"type", "message"}
    assert "\n" not in error["message"]


def test_a_giant_body_in_pieces_is_refused_too(root):
    pieces = (b"a" * 10_000 for _ in range(20))
    assert root.ask("POST", "/v1/search", body=pieces, **JSON).status == 413


def test_addresses_that_are_not_text_or_not_there_are_refused(root):
    assert root.ask("GET", "/v1/records/%ff").status == 400
    assert root.ask("GET", "/v1/records/a?namespace=%ff").status == 400
    assert root.ask("GET", "/v1/records/a?namespace=a//b").status == 400
    assert root.ask("GET", "/v1/records?limit=many").status == 422
    assert (root.ask("GET", "/v2").status, root.ask("POST", "/v1/stats").status) == (404, 405)
    assert root.ask("GET", "/v2").json["error"]["type"] == "NotFound"


def test_a_page_of_another_site_cannot_write(root):
    said = {"value": 1}
    assert root.ask("PUT", "/v1/records/c", said, Origin="http://evil.example").status == 403
    assert root.ask("PUT", "/v1/records/c", said, Sec_Fetch_Site="cross-site").status == 403
    answer = root.ask("PUT", "/v1/records/c", said, Origin=f"http://127.0.0.1:{root.port}")
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_connection_that_breaks_off_leaves_nothing_behind(root, server):
    for path, body in (("PUT /v1/records/half", b'{"value": "ha'), ("POST /v1/import", b'{"extmem": "export", "fo')):
        with socket.create_connection(("127.0.0.1", server.port)) as half:
            head = f"{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {root.key}\r\nContent-Length: 1000\r\n"
            half.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            half.shutdown(socket.SHUT_WR)
            half.recv(1)
    assert root.ask("GET", "/v1/records/half").status == 404
    assert root.ask("GET", "/healthz").status == 200


# What is written down


def test_the_audit_says_who_did_what_and_never_what_it_was(root, server):
    root.ask("PUT", "/v1/records/audited", {"value": "a secret value"})
    root.ask("POST", "/v1/search", {"query": "secret value"})
    path = server.folder.with_name("m.audit.jsonl")
    text = path.read_text()
    said = [json.loads(line) for line in text.splitlines()]
    stored = next(line for line in said if line.get("key") == "audited")
    assert (stored["who"], stored["did"], stored["namespace"]) == (root.key.split("_")[1], "store", "")
    assert any(line["did"] == "search" and "audited" in line["keys"] for line in said)
    assert "secret value" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_log_has_each_request_by_its_id_and_no_keys(root, server):
    number = root.ask("GET", "/v1/records/a-private-key").headers["x-request-id"]
    until, found = time.monotonic() + 30, []
    while not found:  # it is written behind the answer
        assert time.monotonic() < until
        text = server.folder.with_name("m.log").read_text()
        found = [line for line in text.splitlines(keepends=True) if number in line and line.endswith("\n")]
    (line,) = map(json.loads, found)
    assert (line["route"], line["status"]) == ("/v1/records/{key:path}", 404)
    assert "a-private-key" not in text
    assert "Traceback" not in text


def test_a_collector_that_is_named_is_sent_a_span_of_each_request(tmp_path):
    sent = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            sent.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, args=(0.01,), daemon=True).start()
        Memory(tmp_path / "m").close()
        with served(tmp_path / "m", "--traces", f"http://127.0.0.1:{collector.server_port}") as server:
            Client(server.port, key(server.folder)).ask("GET", "/v1/stats")
            assert server.stop() == 0
        collector.shutdown()
    assert any(path == "/v1/traces" and b"/v1/stats" in body for path, body in sent)
