"""A real server in a process of its own, and a client that speaks plain HTTP to it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from extmem import Memory
from extmem.serve import keys
from extmem.serve.access import Access
from extmem.serve.app import build, with_model
from extmem.serve.journal import Journal
from extmem.serve.sessions import Sessions

EXTMEM = str(Path(sys.executable).with_name("extmem"))


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to a port of this machine with one key."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self.port, self.key = port, key

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def ask(self, method: str, path: str, said: object = None, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = self.headers() | {name.replace("_", "-"): value for name, value in headers.items()}
        if said is not None:
            body, given = json.dumps(said).encode(), {"Content-Type": "application/json", **given}
        try:
            with suppress(BrokenPipeError):  # it may have answered before all was sent
                connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()})
        finally:
            connection.close()


class Server(NamedTuple):
    process: subprocess.Popen
    port: int
    folder: Path | str

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def served(memory: Path | str, *options: str, log: Path | None = None) -> Iterator[Server]:
    """`extmem serve` on a free port, ended at the end; its log lies beside a memory that is a folder."""
    log = log or Path(memory).with_name(f"{Path(memory).name}.log")
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [EXTMEM, "serve", str(memory), "--port", "0", *options], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), log.read_text()
        yield Server(process, int(line.rpartition(":")[2]), memory)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def key(memory: Path | str, *namespaces: str, may: str = "admin") -> str:
    with Memory(memory) as handle:
        return keys.grant(handle, namespaces or ("",), may)[1]


def description() -> dict[str, dict[str, Any]]:
    """All that the server says of its routes, by path and method."""
    app = build(Access(Memory(), Journal(None), Sessions(Path()), 0, direct=True))
    with_model(app, None)
    return app.openapi()["paths"]


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([EXTMEM, *words], capture_output=True, text=True)
