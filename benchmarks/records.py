"""Records: extmem's speed, in turn with sqlite3, LMDB, diskcache, shelve, LangChain's, LangGraph's and mem0's stores.

    .venv/bin/python benchmarks/records.py --peers .venv-bench/bin/python    the tables (a quarter of an hour)
    .venv/bin/python benchmarks/records.py --flat                            1e4 to 1e7 records; needs 10 GB of disk
    .venv/bin/python benchmarks/records.py --import-gb 1                     memory that an import needs
    .venv/bin/python benchmarks/records.py --records 2000 --repeats 1        a try, in seconds

Every store is a process of its own (record_peers.py says how each is called) and works while the others
wait; in each repeat all of them do the same step on the same keys and values before any does the next,
beginning with another one each time. Keys are 16 hexadecimal digits in scattered order, values have 100
characters. "Durable" means that a write is on disk (fsync) when it returns, read off each store's
settings. A store that cannot hold so many records in a few seconds gets fewer, which favours it; the
table says so. The ratios are medians over the repeats of ours to theirs within one repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from math import log10
from pathlib import Path

from record_peers import PEERS, record

OURS, RAM, SAME = "extmem", "extmem in RAM", "sqlite3, the same table"
STEPS = ("read", "batched", "write", "bulk")
TITLES = {"read": "reads/s", "batched": "in batches/s", "write": "single writes/s", "bulk": "bulk writes/s"}
CLAIMS = (  # what, whose, step, to what it is compared, at least that ratio
    ("point reads from a folder", OURS, "read", SAME, 0.7),
    ("batched reads from a folder", OURS, "batched", SAME, 0.8),
    ("durable single writes", OURS, "write", SAME, 0.7),
    ("bulk writes to a folder", OURS, "bulk", SAME, None),
    ("reads from RAM", RAM, "read", "dict", 0.3),
)
BULK = 300_000  # records a second that bulk writes should reach
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
CALL = 100_000  # records in one call while a store is filled


class Contender:
    """One store at work in its process."""

    def __init__(self, name: str, python: str, folder: Path, limit: float) -> None:
        self.name, self.peer = name, PEERS[name]
        self.rates: dict[str, list[float]] = {step: [] for step in STEPS}
        self.trouble = ""
        script = Path(__file__).with_name("record_peers.py")
        self.process = subprocess.Popen(
            [python, str(script), name, str(folder / name.replace(" ", "_").replace(",", "")), str(limit)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, step: str, *numbers: int) -> float:
        """The answer to one step; 0 and `trouble` where the store cannot do it."""
        if self.trouble:
            return 0.0
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(" ".join(map(str, (step, *numbers))) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        for line in self.process.stdout:
            if line.startswith("=> "):
                answer = json.loads(line[3:])
                if "rate" in answer:
                    return float(answer["rate"])
                self.trouble = "not installed" if "missing" in answer else f"cannot run: {answer['failed']}"
                say(f"{self.name}: {answer}")
                return 0.0
        self.trouble = f"stopped with status {self.process.wait()}"
        return 0.0

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()

    def row(self) -> dict:
        figures = {step: spread(rates) for step, rates in self.rates.items() if rates and not self.trouble}
        return {"store": self.name, "durable": self.peer.durable, "trouble": self.trouble} | figures


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compare(options: argparse.Namespace, folder: Path) -> dict:
    """All stores in turn."""
    with ExitStack() as stack:
        contenders = []
        for name, peer in PEERS.items():
            if not peer.package or options.peers:
                contender = Contender(name, options.peers if peer.package else sys.executable, folder, options.seconds)
                stack.callback(contender.stop)
                contenders.append(contender)
        for repeat in range(options.repeats):
            turn = repeat * len(contenders) // options.repeats
            order = contenders[turn:] + contenders[:turn]
            holds = {c.name: min(options.records, int(c.ask("fresh"))) for c in order}
            for step in ("bulk", "read", "batched", "write"):
                for contender in order:
                    held = holds[contender.name]
                    first, last = {"bulk": (0, held), "write": (held, options.writes)}.get(step, (held, options.reads))
                    contender.rates[step].append(contender.ask(step, first, last))
                    say(f"repeat {repeat + 1}  {step:8} {contender.name:28} {contender.rates[step][-1]:>12,.0f}/s")
        by_name = {contender.name: contender for contender in contenders}
        rows = [
            by_name[name].row() if name in by_name else {"store": name, "trouble": "not installed"} for name in PEERS
        ]
        for row in rows:
            if PEERS[row["store"]].most < options.records:
                row["records"] = PEERS[row["store"]].most
        return {
            "records": options.records,
            "repeats": options.repeats,
            "rows": rows,
            "claims": [claim(by_name, *given) for given in CLAIMS] + [speed(by_name[OURS])],
            "ahead": [ahead(by_name, peer) for peer in by_name.values() if peer.peer.package or "shelve" in peer.name],
        }


def ratios(one: Contender, other: Contender, step: str) -> list[float]:
    return [a / b for a, b in zip(one.rates[step], other.rates[step], strict=True) if b]


def claim(by_name: dict, what: str, ours: str, step: str, theirs: str, least: float | None) -> dict:
    found = ratios(by_name[ours], by_name[theirs], step)
    rates = (statistics.median(by_name[name].rates[step]) for name in (ours, theirs))
    return dict(zip(("claim", "to", "ours", "theirs"), (what, theirs, *rates), strict=True)) | {
        "ratio": spread(found), "least": least, "holds": None if least is None else statistics.median(found) >= least
    }  # fmt: skip


def speed(ours: Contender) -> dict:
    rate = statistics.median(ours.rates["bulk"])
    return {"claim": "bulk writes to a folder", "ours": rate, "least": BULK, "holds": rate >= BULK}


def ahead(by_name: dict, other: Contender) -> dict:
    """Ours over a peer's, a folder against files and RAM against RAM."""
    ours = by_name[RAM if other.peer.durable == "RAM" else OURS]
    times = {step: ratios(ours, other, step) for step in STEPS}
    medians = {step: statistics.median(found) for step, found in times.items() if found}
    return {"store": other.name, "durable": other.peer.durable} | medians


def flat(options: argparse.Namespace, folder: Path) -> dict:
    """What one operation costs as a memory grows; sqlite3 with the same table beside it."""
    rows: list[dict] = []
    with ExitStack() as stack:
        both = [Contender(name, sys.executable, folder, options.seconds) for name in (OURS, SAME)]
        for contender in both:
            stack.callback(contender.stop)
            contender.ask("fresh")
        held = 0
        for size in [size for size in SIZES if size <= options.most]:
            bulk: dict[str, list[float]] = {OURS: [], SAME: []}
            while held < size:
                last = min(size, held + CALL)
                for contender in both:
                    bulk[contender.name].append(contender.ask("bulk", held, last))
                held = last
                if held % (10 * CALL) == 0:
                    say(f"{held:>12,} records, {', '.join(f'{r[-1]:,.0f}/s' for r in bulk.values())}")
            found = {OURS: {"bulk": bulk[OURS][-5:]}, SAME: {"bulk": bulk[SAME][-5:]}}
            for repeat in range(options.repeats):
                for contender in both:
                    steps = {"read": (size, options.reads), "write": (1 << 40 | size + repeat * 10**5, options.writes)}
                    if contender.name == OURS:
                        steps |= {"anew": (), "search": (200,)}
                    for step, numbers in steps.items():
                        found[contender.name].setdefault(step, []).append(contender.ask(step, *numbers))
            for contender in both:
                if contender.trouble:
                    raise SystemExit(f"{contender.name}: {contender.trouble}")
                figures = {step: statistics.median(values) for step, values in found[contender.name].items()}
                rows.append({"records": size, "store": contender.name} | figures)
                say(str(rows[-1]))
        bytes_ = sum(path.stat().st_size for path in (folder / OURS).rglob("*") if path.is_file())
    return {"rows": rows, "folder_bytes": bytes_}


def imported(options: argparse.Namespace, folder: Path) -> dict:
    """Imports a file of records by the command, in a process whose peak memory the system reports."""
    path, count, size = folder / "records.jsonl", 0, options.import_gb * 10**9
    with open(path, "w", encoding="utf-8") as file:
        while file.tell() < size:
            for number in range(count, count + 10_000):
                key, value = record(number)
                file.write(f'{{"key": "{key}", "value": "{value}"}}\n')
            count += 10_000
    say(f"{count:,} records written, {path.stat().st_size:,} bytes")
    command = Path(sys.executable).with_name("extmem")
    began = time.perf_counter()
    child = subprocess.Popen([command, "import", path, "--memory", folder / "m", "--json"], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    spent = time.perf_counter() - began
    if child.returncode:
        raise SystemExit(f"extmem import stopped with status {child.returncode}")
    told = subprocess.run([command, "stats", "--memory", folder / "m", "--json"], capture_output=True, text=True)
    there = json.loads(told.stdout)["records"]
    return {
        "file_bytes": path.stat().st_size,
        "records": count,
        "records_there": there,
        "seconds": spent,
        "records_per_second": count / spent,
        "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def tables(about: dict) -> str:
    """What `compare` found, for people."""
    lines = [f"{about['records']:,} records, medians of {about['repeats']} repeats (least-most)", ""]
    lines += [f"{'':29}{'durable':14}" + "".join(f"{TITLES[step]:>22}" for step in STEPS)]
    for row in about["rows"]:
        name = row["store"]
        if row["trouble"]:
            lines.append(f"{name:29}{row['trouble']}")
            continue
        cells = [row[step] for step in STEPS]
        shown = [f"{short(c['median'])} ({short(c['least'])}-{short(c['most'])})" if c["most"] else "-" for c in cells]
        note = f"  of {row['records']:,}" if "records" in row else ""
        lines.append(f"{name:29}{row['durable']:14}" + "".join(f"{cell:>22}" for cell in shown) + note)
    lines += ["", f"{'':30}{'to':25}{'ours':>8}{'theirs':>8}{'ratio':>8}{'range':>12}{'at least':>10}"]
    for row in about["claims"]:
        verdict = {None: "", True: "  yes", False: "  NO"}[row["holds"]]
        head = f"{row['claim']:30}{row.get('to', ''):25}{short(row['ours']):>8}"
        if "ratio" in row:
            ratio = row["ratio"]
            head += f"{short(row['theirs']):>8}{ratio['median']:>8.2f}{ratio['least']:>7.2f}-{ratio['most']:.2f}"
        least = "" if row["least"] is None else f"{row['least']:,}"
        lines.append(f"{head:91}{least:>10}{verdict}")
    lines += ["", f"{'extmem is so many times as fast as':43}" + "".join(f"{TITLES[step]:>17}" for step in STEPS)]
    for row in about["ahead"]:
        cells = [f"{row[step]:.2f}" if step in row else "-" for step in STEPS]
        lines.append(f"{row['store']:29}{row['durable']:14}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)


def short(rate: float) -> str:
    """Three figures of a number: 1.23k, 238k, 2.61M."""
    for unit, letter in ((10**6, "M"), (10**3, "k")):
        if rate >= unit:
            return f"{rate / unit:.{max(0, 2 - int(log10(rate / unit)))}f}{letter}"
    return f"{rate:.0f}"


FLAT: dict[str, tuple[str, Callable[[float], float]]] = {  # step: title, microseconds from a rate
    "read": ("point read", lambda rate: 1e6 / rate),
    "write": ("durable write", lambda rate: 1e6 / rate),
    "bulk": ("record in bulk", lambda rate: 1e6 / rate),
    "search": ("search in a namespace", lambda rate: 1e6 / rate),
    "anew": ("opening and first search", lambda seconds: 1e6 * seconds),
}


def flat_table(about: dict) -> str:
    lines = [f"{'records':>12}  {'microseconds for a':24}" + "".join(f"{title:>25}" for title, _ in FLAT.values())]
    for row in about["rows"]:
        cells = [f"{cost(row[step]):,.1f}" if step in row else "-" for step, (_, cost) in FLAT.items()]
        lines.append(f"{row['records']:>12,}  {row['store']:24}" + "".join(f"{cell:>25}" for cell in cells))
    return "\n".join([*lines, "", f"the folder holds {about['folder_bytes']:,} bytes"])


def plot(about: dict) -> str:
    """The costs over the number of records, both on logarithmic axes, as SVG."""
    left, right, top, bottom, decades = 70, 560, 30, 330, 6  # 0.1 to 100,000 microseconds

    def at(records: float, micros: float) -> str:
        x = left + (log10(records) - 4) / 3 * (right - left)
        return f"{x:.0f},{bottom - (log10(micros) + 1) / decades * (bottom - top):.0f}"

    head = '<svg xmlns="http://www.w3.org/2000/svg" width="760" height="380" font-family="sans-serif" font-size="12">'
    parts = [head, '<rect width="760" height="380" fill="white"/>']
    for power in range(-1, decades):
        x, y = at(1e4, 10.0**power).split(",")
        parts += [f'<path d="M{x},{y}H{right}" stroke="#ddd"/>']
        parts += [f'<text x="{left - 8}" y="{int(y) + 4}" text-anchor="end">{10.0**power:,g} µs</text>']
    for size in SIZES:
        x = at(size, 1).split(",")[0]
        parts += [f'<text x="{x}" y="{bottom + 20}" text-anchor="middle">{size:,}</text>']
    parts += [f'<text x="{(left + right) // 2}" y="{bottom + 40}" text-anchor="middle">records in the memory</text>']
    colours = ("#0b62a4", "#c0392b", "#27864a", "#7d3c98", "#b9770e")
    for colour, (step, (title, cost)) in zip(colours, FLAT.items(), strict=True):
        for name, dash in ((OURS, "none"), (SAME, "4 4")):
            rows = [row for row in about["rows"] if row["store"] == name and step in row]
            points = [at(row["records"], cost(row[step])) for row in rows]
            line = f'fill="none" stroke="{colour}" stroke-dasharray="{dash}"'
            parts += [f'<polyline points="{" ".join(points)}" {line}/>']
            if points and name == OURS:
                x, y = points[-1].split(",")
                parts += [f'<text x="{int(x) + 8}" y="{int(y) + 4}" fill="{colour}">{title}</text>']
    parts += [f'<text x="{left}" y="18">Time of one operation; dashed: sqlite3 on the same table</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has the peers' packages")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--reads", type=int, default=100_000, help="how many reads a step makes")
    parser.add_argument("--writes", type=int, default=4_000, help="how many single writes a step makes")
    parser.add_argument("--seconds", type=float, default=2.0, help="what a step of reads or single writes may take")
    parser.add_argument("--flat", action="store_true", help="what an operation costs from 1e4 to 1e7 records")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="with --flat: up to so many records")
    parser.add_argument("--plot", type=Path, default=Path("docs/records-flat.svg"), help="with --flat: the picture")
    parser.add_argument("--import-gb", type=float, help="import a file of so many GB")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="extmem-records-") as folder:
        if options.import_gb:
            about = imported(options, Path(folder))
            shown = "\n".join(f"{name:20}{value:>16,.0f}" for name, value in about.items())
        elif options.flat:
            about = flat(options, Path(folder))
            shown = flat_table(about)
            options.plot.write_text(plot(about), encoding="utf-8")
            say(f"{options.plot} written")
        else:
            about = compare(options, Path(folder))
            shown = tables(about)
    print(json.dumps(about) if options.json else shown)


if __name__ == "__main__":
    main()
