"""What a server answers under load: reads and searches a second over HTTP, and what it does beyond its capacity.

    python benchmarks/server.py ../shared/data
    python benchmarks/server.py ../shared/data --workers 2 --meaning --seconds 10 --json
    python benchmarks/server.py ../shared/data --workers 2 --soak 30

The memory holds records made of two halves of real texts (`search_speed.py`); the server is `extmem serve` in a
process of its own, the load is wrk's (Debian's package), one thread and 64 connections on the same machine, so that
both share its cores; `cpu_ms` is the server's own time an answer (Linux). wrk asks again as soon as it is answered, so
64 connections always have 64 questions waiting; "steady" are questions that come at times of their own, half as many a
second as were answered then. Keys and questions (LoCoMo's) are drawn
anew for every request. With --meaning all records are embedded by MiniLM, which takes minutes, and searches are by
words and meaning. "beyond" has --requests 16 (of a worker): what is refused is refused at once, and reads succeed
afterwards. --soak is so many minutes of reads, searches, changes and erasures (70, 20, 9 and 1 of 100 requests), and
what RAM the server holds after each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search_speed import made, questions, texts

from extmem import Memory
from extmem.serve import keys

EXTMEM = str(Path(sys.executable).with_name("extmem"))
CONNECTIONS = 64
RETRIEVE = """
request = function()
  return wrk.format("GET", "/v1/records/k" .. math.random(0, {count} - 1), {{["Authorization"] = "Bearer {key}"}})
end
"""
SEARCH = """
local asked = {{{asked}}}
request = function()
  return wrk.format("POST", "/v1/search", {{["Authorization"] = "Bearer {key}", ["Content-Type"] = "application/json"}},
    asked[math.random(#asked)])
end
"""
PACED = """
function delay() return math.random(0, {most_ms}) end
"""
MIXED = """
local asked = {{{asked}}}
local headers = {{["Authorization"] = "Bearer {key}", ["Content-Type"] = "application/json"}}
request = function()
  local drawn, place = math.random(100), "/v1/records/k" .. math.random(0, {count} - 1)
  if drawn <= 70 then return wrk.format("GET", place, headers) end
  if drawn <= 90 then return wrk.format("POST", "/v1/search", headers, asked[math.random(#asked)]) end
  if drawn == 100 then return wrk.format("DELETE", place, headers) end
  return wrk.format("PUT", place, headers, '{{"value": "the number ' .. math.random(10000) .. '"}}')
end
"""
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def filled(folder: Path, data: Path, count: int, meaning: bool) -> str:
    """Makes the memory; a key that may change it."""
    with Memory(folder) as memory:
        memory.store_many((f"k{number}", text) for number, text in enumerate(made(texts(data), count)))
        memory.search("the first question", by="words")
        if meaning:
            memory.embed("minilm", lambda done, total: print(f"{done:,} of {total:,} embedded", file=sys.stderr))
        return keys.grant(memory, [""], "write")[1]


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """The server's address and process."""
    command = [EXTMEM, "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def load(script: str, server: tuple[str, int], seconds: int, connections: int, work: Path) -> dict[str, float]:
    """What wrk saw."""
    (work / "load.lua").write_text(script, encoding="utf-8")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s"]
    command += [str(work / "load.lua"), server[0]]
    before = cpu(server[1])
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    broken = re.search(r"Socket errors: (.*)", said)
    total = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]
    no = int(refused[1]) if refused else 0
    found = {
        "answered_per_second": per_second * (total - no) / max(1, total),
        "refused_per_second": per_second * no / max(1, total),
    }
    for part in ("50", "99"):
        number, unit = re.search(rf"{part}%\s+([\d.]+)([a-z]+)", said).groups()  # type: ignore[union-attr]
        found[f"p{part}_ms"] = float(number) * UNITS[unit]
    found["cpu_ms"] = 1e3 * (cpu(server[1]) - before) / max(1, total)
    return found | {"broken": sum(map(int, re.findall(r"\d+", broken[1]))) if broken else 0}


def processes(server: int) -> list[int]:
    """The server's process and its workers'."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(server)], capture_output=True, text=True).stdout
    return [server, *map(int, found.split())]


def cpu(server: int) -> float:
    """Seconds of CPU that a server has had."""
    told = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in processes(server)]
    return sum(int(user) + int(system) for user, system in (words[11:13] for words in told)) / os.sysconf("SC_CLK_TCK")


def resident(server: int) -> float:
    """MiB of RAM that is a server's own: not of files, not shared by its workers twice."""
    told = (Path(f"/proc/{one}/smaps_rollup").read_text() for one in processes(server))
    return sum(int(re.search(r"Pss_Anon:\s+(\d+)", one)[1]) for one in told) / 1024  # type: ignore[index]


def measured(data: Path, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    memory, workers = folder / "memory", ("--workers", str(given.workers))
    asked = ", ".join(json.dumps(json.dumps({"query": one})) for one in questions(data))
    words = {"count": given.records, "key": filled(memory, data, given.records, given.meaning), "asked": asked}
    retrieve, search, mixed = (script.format(**words) for script in (RETRIEVE, SEARCH, MIXED))
    if given.soak:
        with served(memory, *workers) as server:
            return soaked(mixed, server, given.soak, folder)
    with served(memory, *workers) as server:
        load(retrieve, server, 2, CONNECTIONS, folder)  # warms up
        load(search, server, 2, CONNECTIONS, folder)
        found = {
            "retrieve": load(retrieve, server, given.seconds, CONNECTIONS, folder),
            "search": load(search, server, given.seconds, CONNECTIONS, folder),
        }
        most = round(2e3 * CONNECTIONS / (found["search"]["answered_per_second"] / 2))
        steady = search + PACED.format(most_ms=most)
        found["steady: search"] = load(steady, server, 2 * given.seconds, CONNECTIONS, folder)
    with served(memory, "--requests", "16", *workers) as server:
        load(search, server, 2, 8, folder)
        found["beyond: search"] = load(search, server, given.seconds, CONNECTIONS, folder)
        found["afterwards: retrieve"] = load(retrieve, server, given.seconds, 8, folder)
    return found


def soaked(script: str, server: tuple[str, int], minutes: int, work: Path) -> dict[str, Any]:
    """Minutes of mixed load, and the RAM after each."""
    found = {}
    for minute in range(1, minutes + 1):
        answered = load(script, server, 60, CONNECTIONS, work)
        found[f"minute {minute}"] = {**answered, "own_mib": resident(server[1])}
        print(f"minute {minute}: {found[f'minute {minute}']}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--meaning", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--soak", type=int, default=0, metavar="MINUTES")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(given.data, given, Path(folder))
    if given.json:
        print(json.dumps(result, indent=1))
        return
    for name, figures in result.items():
        print(f"{name:22}" + "  ".join(f"{what} {figure:,.1f}" for what, figure in figures.items()))


if __name__ == "__main__":
    main()
