"""Several processes that are one server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Client, Server, key, run, served

from extmem import Memory
from extmem.serve.running import listening
from postgres_server import PostgresServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("workers") / "m"
    with Memory(folder) as memory:
        memory.store("a", "first")
    with served(folder, "--workers", "2") as running:
        yield running


def children(process: int) -> list[int]:
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True).stdout
    return [int(word) for word in said.split()]


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def count(admin: Client) -> float:
    """Reads that the server says it has answered."""
    lines = admin.ask("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("extmem_requests_total{") and "key" in line)


def test_what_one_worker_stored_the_others_read(server: Server) -> None:
    admin = Client(server.port, key(server.folder))
    for number in range(20):
        assert admin.ask("PUT", "/v1/records/n", {"value": number}).status == 200
        assert {admin.ask("GET", "/v1/records/n").json["value"] for _ in range(4)} == {number}


def test_the_link_opens_once_and_its_session_everywhere(server: Server) -> None:
    link = server.process.stdout.readline().split()[0].partition("#link=")[2]
    nobody = Client(server.port)
    opened = [nobody.ask("POST", "/v1/session", {"link": link}) for _ in range(6)]
    assert [answer.status for answer in opened] == [200] + [401] * 5
    assert nobody.ask("POST", "/v1/session", {"link": "\ud800"}).status == 401
    session = Client(server.port, opened[0].json["session"])
    assert {session.ask("GET", "/v1/records/a").status for _ in range(12)} == {200}


def test_figures_are_of_all_workers(server: Server) -> None:
    admin = Client(server.port, key(server.folder))
    before = count(admin)
    for _ in range(30):
        assert admin.ask("GET", "/v1/records/a").status == 200
    ends = time.monotonic() + 30
    while count(admin) < before + 30:  # a worker counts a request when its answer is out
        assert time.monotonic() < ends


def test_a_worker_that_was_killed_is_replaced_and_nothing_is_lost(server: Server) -> None:
    admin = Client(server.port, key(server.folder))
    before = children(server.process.pid)
    assert len(before) == 2
    assert admin.ask("PUT", "/v1/records/b", {"value": "kept"}).status == 200
    os.kill(before[0], signal.SIGKILL)
    ends = time.monotonic() + 30
    while (now := children(server.process.pid)) == before or len(now) < 2:
        assert time.monotonic() < ends, now
        time.sleep(0.05)
    assert {admin.ask("GET", "/v1/records/b").json["value"] for _ in range(12)} == {"kept"}


def test_workers_that_cannot_begin_say_why_in_one_line(tmp_path: Path) -> None:
    Memory(tmp_path / "m").close()
    said = run("serve", str(tmp_path / "m"), "--port", "0", "--workers", "2", "--model", str(tmp_path / "none"))
    assert (said.returncode, said.stdout) == (2, "")
    assert len(said.stderr.splitlines()) == 1
    assert "none" in said.stderr


def test_a_signal_ends_all_of_them(tmp_path: Path) -> None:
    Memory(tmp_path / "m").close()
    with served(tmp_path / "m", "--workers", "2") as server:
        workers = children(server.process.pid)
        assert server.stop() == 0
        assert not any(map(is_there, workers))


def test_workers_end_with_the_process_that_began_them(server: Server) -> None:
    admin = Client(server.port, key(server.folder))
    assert admin.ask("PUT", "/v1/records/c", {"value": "kept"}).status == 200
    workers = children(server.process.pid)
    server.process.kill()
    ends = time.monotonic() + 30
    while any(map(is_there, workers)):
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert run("verify", "--memory", str(server.folder)).returncode == 0
    with Memory(server.folder) as memory:
        assert memory.retrieve("c") == "kept"


def test_a_memory_in_postgresql_is_served_alike(postgres: PostgresServer, tmp_path: Path) -> None:
    with Memory(postgres.url) as memory:
        memory.namespace("served").store("The capital of France is", "Paris")
    with served(postgres.url, "--workers", "2", log=tmp_path / "log") as server:
        client = Client(server.port, key(postgres.url, "served"))
        assert client.ask("PUT", "/v1/records/n", {"value": {"x": [1]}}).status == 200
        assert {str(client.ask("GET", "/v1/records/n").json["value"]) for _ in range(8)} == {"{'x': [1]}"}
        assert client.ask("POST", "/v1/answer", {"question": "What is the capital of France?"}).json["text"] == "Paris"
        assert client.ask("POST", "/v1/chat", {"user": "ann", "message": "I live in Bern."}).status == 200
        assert "Bern" in client.ask("POST", "/v1/chat", {"user": "ann", "message": "Where do I live?"}).json["text"]
        assert client.ask("DELETE", "/v1/namespaces/ann").json["forgotten"] == 5
        assert server.stop() == 0


def test_small_answers_are_sent_at_once() -> None:
    """asyncio sets TCP_NODELAY where the listener names its protocol; else each answer waits 40 ms for the client."""

    async def delays() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(connected, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                writer.close()
                return await accepted

    assert asyncio.run(delays())
