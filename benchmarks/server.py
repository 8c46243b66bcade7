"""How much `extmem serve` answers: wrk on one core beside it, so many connections, a memory of so many records.

    .venv/bin/python benchmarks/server.py [--records 100000] [--connections 64] [--seconds 10] [--json]

Needs wrk (apt-get install wrk) and Linux. `retrieve` asks for random keys, `search` for two random words.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from extmem import Memory
from extmem.serve import keys

WORDS = [f"w{number}" for number in range(5_000)]
RETRIEVE = """request = function() return wrk.format("GET", "/v1/records/k" .. math.random(0, {last})) end"""
SEARCH = """
words = {{ {words} }}
request = function()
  local said = words[math.random(#words)] .. " " .. words[math.random(#words)]
  return wrk.format("POST", "/v1/search", nil, '{{"query": "' .. said .. '"}}')
end"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), given)
    if given.json:
        print(json.dumps(rows))
        return
    print(
        "| | requests/s | p50 ms | p99 ms | the server's CPU, ms each | not answered 2xx |\n|---|---|---|---|---|---|"
    )
    for row in rows:
        figures = f"{row['rate']:,.0f} | {row['p50']:.0f} | {row['p99']:.0f} | {row['cpu']:.2f} | {row['failed']:,}"
        print(f"| {row['what']} | {figures} |")


def measured(folder: Path, given: argparse.Namespace) -> list[dict]:
    """A row for each kind of request."""
    chance = random.Random(0)
    with Memory(folder / "m") as memory:
        memory.store_many((f"k{n}", " ".join(chance.choices(WORDS, k=20))) for n in range(given.records))
        key = keys.grant(memory, [""], "read")[1]
        memory.search("warm")
    extmem = Path(sys.executable).with_name("extmem")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [extmem, "serve", folder / "m", "--port", "0"], stdout=subprocess.PIPE, stderr=log, text=True
        )
    address = server.stdout.readline().strip()
    scripts = {
        "retrieve": RETRIEVE.format(last=given.records - 1),
        "search": SEARCH.format(words=", ".join(f'"{word}"' for word in WORDS)),
    }
    head = f'wrk.headers["Authorization"] = "Bearer {key}"\nwrk.headers["Content-Type"] = "application/json"\n'
    try:
        return [run(folder, what, head + script, (address, server.pid), given) for what, script in scripts.items()]
    finally:
        server.terminate()
        server.wait()


def run(folder: Path, what: str, script: str, server: tuple[str, int], given: argparse.Namespace) -> dict:
    """What wrk says after a second of warming up."""
    (folder / "wrk.lua").write_text(script)
    address, pid = server
    words = ["wrk", "-t1", f"-c{given.connections}", "--latency", "-s", folder / "wrk.lua", address]
    subprocess.run([*words, "-d1s"], capture_output=True, check=True)
    before = cpu(pid)
    said = subprocess.run([*words, f"-d{given.seconds}s"], capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    rate = re.search(r"Requests/sec: +([\d.]+)", said)
    return {
        "what": what,
        "rate": float(rate[1]),
        "p50": _ms(said, "50%"),
        "p99": _ms(said, "99%"),
        "cpu": (cpu(pid) - before) / int(re.search(r"(\d+) requests in", said)[1]) * 1e3,
        "failed": int(failed[1]) if failed else 0,
    }


def cpu(pid: int) -> float:
    """The seconds of CPU that a process has had; Linux."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _ms(said: str, part: str) -> float:
    number, unit = re.search(rf"{part} +([\d.]+)(us|ms|s)\b", said).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


if __name__ == "__main__":
    main()
