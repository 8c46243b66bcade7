"""The server under mishaps: too much at once, another server beside it, ends of both kinds, addresses taken."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import Client, key, run, served

from extmem import Memory


@pytest.fixture
def memory(tmp_path):
    with Memory(tmp_path / "m") as handle:
        handle.store("apple", "A fruit")
    return tmp_path / "m"


def test_beyond_its_capacity_it_says_so_at_once_and_recovers(memory):
    with served(memory, "--requests", "2") as server:
        client = Client(server.port, key(memory))
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        for one in held:  # two imports that do not come to an end
            head = f"POST /v1/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.key}\r\nContent-Length: 9\r\n"
            one.sendall(f"{head}\r\n".encode())
        until = time.monotonic() + 30
        while (refused := client.ask("GET", "/v1/records/apple")).status != 503:
            assert time.monotonic() < until
        assert (refused.json["error"]["type"], refused.headers["retry-after"]) == ("Busy", "1")
        for one in held:
            one.close()
        until = time.monotonic() + 30
        while client.ask("GET", "/v1/records/apple").status != 200:
            assert time.monotonic() < until


def test_a_key_that_asks_too_often_waits_and_others_do_not(memory):
    with served(memory, "--rate", "2") as server:
        client, other = Client(server.port, key(memory)), Client(server.port, key(memory))
        with ThreadPoolExecutor(8) as many:
            answers = list(many.map(lambda _: client.ask("GET", "/v1/records/apple"), range(16)))
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        assert refused[0].headers["retry-after"] == "1"
        assert other.ask("GET", "/v1/records/apple").status == 200
        time.sleep(1)
        assert client.ask("GET", "/v1/records/apple").status == 200


def test_a_body_that_stops_coming_is_given_up(memory):
    with served(memory, "--seconds", "0.3") as server:
        client = Client(server.port, key(memory))
        for path in ("PUT /v1/records/slow", "POST /v1/import"):
            with socket.create_connection(("127.0.0.1", server.port)) as slow:
                head = f"{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.key}\r\nContent-Length: 9\r\n"
                slow.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
                assert b" 504 " in slow.recv(1000)
        assert client.ask("GET", "/v1/records/slow").status == 404


def test_who_does_not_finish_a_request_is_cut_and_who_sends_a_body_slowly_is_not(memory):
    opens, left = key(memory), b"so slowly that it takes a while"
    head = b"Host: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
    begun = {
        "nothing": (b"", b""),
        "headers": (b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n"),
        "headers of a second one": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\n", b"a: b\r\n"),
        "a refused body": (b"PUT /v1/records/k HTTP/1.1\r\n" + head + b"\r\n", b" "),
        "a body without a key": (b"POST /v1/session HTTP/1.1\r\n" + head + b"\r\n{", b" "),
    }
    slow = b"POST /v1/import?kind=text&name=late HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
    slow += b"Content-Length: %d\r\n\r\n"
    with served(memory, "--seconds", "60") as server:
        held = {name: socket.create_connection(("127.0.0.1", server.port)) for name in begun}
        for name, (first, _) in begun.items():
            held[name].sendall(first)
        with socket.create_connection(("127.0.0.1", server.port)) as importing:
            importing.sendall(slow % (opens.encode(), len(left)))
            heard, began = dict.fromkeys(begun, b""), time.monotonic()
            while held or time.monotonic() < began + 13:
                assert time.monotonic() < began + 30, held.keys()
                importing.sendall(left[:1])
                left = left[1:]
                time.sleep(1)
                for name, one in list(held.items()):
                    try:
                        one.sendall(begun[name][1])
                        one.setblocking(False)
                        heard[name] += (said := one.recv(10_000))
                    except BlockingIOError:
                        continue
                    except OSError:  # it was cut
                        said = b""
                    if not said:
                        held.pop(name).close()
            importing.sendall(left)
            assert b" 200 " in importing.recv(1000)
    assert heard["nothing"] == heard["headers"] == b""
    assert heard["headers of a second one"].count(b"HTTP/1.1 200") == 1
    assert heard["a refused body"].startswith(b"HTTP/1.1 401")
    assert heard["a body without a key"].startswith(b"HTTP/1.1 504")


def test_without_a_key_no_body_is_waited_for(memory):
    head = b"PUT /v1/records/apple HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    with served(memory) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as one:
        one.sendall(head)
        assert one.recv(100).startswith(b"HTTP/1.1 401")


def test_what_is_no_json_is_refused_and_never_answered(memory):
    with Memory(memory) as handle:
        handle.store("odd", [1.0, float("nan"), {"far": float("inf")}])
    with served(memory) as server:
        client = Client(server.port, key(memory))
        for value in (b"NaN", b"1e999", b"[-Infinity]"):
            for body in (b'{"value": %b}' % value, b'{"value": 1, "metadata": {"a": %b}}' % value):
                said = client.ask("PUT", "/v1/records/n", body=body, Content_Type="application/json")
                assert (said.status, said.json["error"]["type"]) == (422, "InvalidInput")
        assert client.ask("GET", "/v1/records/odd").json["value"] == [1.0, None, {"far": None}]


def test_two_servers_on_one_memory_agree(memory):
    with served(memory) as one, served(memory) as other:
        token = key(memory)
        clients = [Client(one.port, token), Client(other.port, token)]

        def count(client):
            for _ in range(20):
                while True:
                    found = client.ask("GET", "/v1/records/n")
                    value, version = (found.json["value"], found.json["version"]) if found.status == 200 else (0, 0)
                    if client.ask("PUT", "/v1/records/n", {"value": value + 1, "expect": version}).status == 200:
                        break

        with ThreadPoolExecutor(2) as both:
            list(both.map(count, clients))
        assert [client.ask("GET", "/v1/records/n").json["value"] for client in clients] == [40, 40]
        assert clients[0].ask("DELETE", "/v1/records/n").status == 200
        assert clients[1].ask("GET", "/v1/records/n").status == 404


def test_sigterm_finishes_an_export_in_progress(memory):
    with Memory(memory) as handle:
        handle.store_many((f"k{n:05}", "x" * 1000) for n in range(20_000))
    with served(memory) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/v1/export", headers=Client(server.port, key(memory)).headers())
        answer = connection.getresponse()
        first = answer.read(1000)
        server.process.terminate()
        time.sleep(0.2)
        assert server.process.poll() is None  # 20 MB do not fit into what lies between
        lines = (first + answer.read()).splitlines()
        assert len(lines) == 20_002
        assert json.loads(lines[-1])["key"] == "k19999"
        connection.close()
        assert server.process.wait(60) == 0


def test_a_client_that_leaves_an_export_ends_it(memory):
    with Memory(memory) as handle:
        handle.store_many((f"k{n:05}", "x" * 1000) for n in range(20_000))
    with served(memory) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/v1/export", headers=Client(server.port, key(memory)).headers())
        connection.getresponse().read(1000)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        assert server.stop() == 0
        assert "went away" in memory.with_name("m.log").read_text()


def test_kill_9_loses_no_acknowledged_write(memory):
    acknowledged: list[list[str]] = [[] for _ in range(4)]
    with served(memory) as server:
        client = Client(server.port, key(memory))

        def write(writer):
            number = 0
            while True:
                try:
                    if client.ask("PUT", f"/v1/records/{writer}-{number}", {"value": number}).status == 200:
                        acknowledged[writer].append(f"{writer}-{number}")
                except (OSError, http.client.HTTPException):
                    return
                number += 1

        writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for one in writers:
            one.start()
        until = time.monotonic() + 30
        while sum(map(len, acknowledged)) < 100:
            assert time.monotonic() < until
            time.sleep(0.01)
        server.process.kill()
        for one in writers:
            one.join()
    keys = [key for some in acknowledged for key in some]
    with Memory(memory) as handle:
        assert len(handle.retrieve_many(keys)) == len(keys) >= 100
        assert handle.verify() == []


# Starting


def test_a_port_in_use_is_one_line(memory):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = run("serve", str(memory), "--port", str(taken.getsockname()[1]))
    assert "is in use" in refused(said)


def test_it_listens_to_others_only_when_there_is_a_key(memory):
    assert "extmem grant" in refused(run("serve", str(memory), "--host", "0.0.0.0", "--port", "0"))


def test_a_memory_that_is_not_there_is_not_made(tmp_path):
    assert "no memory" in refused(run("serve", str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_keys_are_made_listed_and_revoked_by_commands(memory):
    made = json.loads(run("grant", str(memory), "--namespace", "alice", "--may", "write", "--json").stdout)
    assert made["key"].startswith(f"em_{made['id']}_")
    assert run("grants", str(memory)).stdout == f"{made['id']}  write  alice\n"
    assert run("revoke", str(memory), made["id"]).returncode == 0
    assert run("revoke", str(memory), made["id"]).returncode == 1
    assert run("grants", str(memory)).stdout == ""
    assert "read, write, admin" in refused(run("grant", str(memory), "--may", "everything"))


def refused(said) -> str:
    assert (said.returncode, said.stdout) == (2, ""), said
    (line,) = said.stderr.strip().splitlines()
    return line
