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
from collections.abc import Iterator
from pathlib import Path

HOMES = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))


class PostgresServer:
    """A server with a data folder of its own; `url` is its address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, HOMES[-1].parent
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", f"{folder}/data")
        with open(folder / "data" / "postgresql.conf", "a") as settings:
            settings.write(f"port={self.port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{folder}'\n")
        self.start()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._run("pg_ctl", "-w", "-t", "60", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stops it: "fast" breaks connections off, "immediate" is like pulling the plug."""
        self._run("pg_ctl", "-w", "-D", f"{self.folder}/data", "-m", mode, "stop")

    def kill(self) -> None:
        """kill -9 of the server and all its processes."""
        number = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = subprocess.run(["pgrep", "-P", str(number)], capture_output=True, text=True).stdout.split()
        for process in [number, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _run(self, program: str, *words: str) -> None:
        user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
        done = subprocess.run(
            [self.bin / program, *words], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            **user,
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
            with contextlib.suppress(AssertionError):
                server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
