"""A real PostgreSQL server for tests: started, stopped and killed by them, on loopback only."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HOMES = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))


class PostgresServer:
    """A server with a data folder of its own; `url` is its address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, HOMES[-1].parent
        self.user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", f"{folder}/data")
        with open(folder / "data" / "postgresql.conf", "a") as settings:
            settings.write(f"port={self.port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{folder}'\n")
        self.start()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with open(self.folder / "log", "ab") as log:
            words = [self.bin / "postgres", "-D", f"{self.folder}/data"]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self.folder, **self.user)
        until = time.monotonic() + 60
        while subprocess.run([self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode:
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self, mode: str = "fast") -> None:
        """Stops it: "fast" breaks connections off, "immediate" is like pulling the plug."""
        self.process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        self.process.wait(60)

    def kill(self) -> None:
        """kill -9 of the server and all its processes."""
        self.process.send_signal(signal.SIGSTOP)  # it forks no more
        number = str(self.process.pid)
        children = subprocess.run(["pgrep", "-P", number], capture_output=True, text=True).stdout.split()
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self.bin / program, *words], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            **self.user,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="extmem-postgres-"))
    try:
        if os.getuid() == 0:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        server = PostgresServer(folder)
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
