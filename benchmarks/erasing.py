"""Erasing: of how many deleted values the files of a store still hold the bytes, extmem beside its peers.

    .venv/bin/python benchmarks/erasing.py --peers .venv-peers/bin/python

A store gets 1,000 records and 100 more, which are deleted one by one with its own call; then all its files
are searched for the middle of each deleted value, at once and again after the store was closed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from record_peers import PEERS
from records import Contender

KEPT, DELETED = 1_000, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has the peers' packages")
    options = parser.parse_args()
    print(f"{'':29}{'still in its files':>20}{'after closing':>16}   of {DELETED} deleted values")
    with tempfile.TemporaryDirectory(prefix="extmem-erasing-") as folder, ExitStack() as stack:
        for name, peer in PEERS.items():
            if peer.durable == "RAM" or name.startswith("sqlite3") or (peer.package and not options.peers):
                continue
            python = options.peers if peer.package else sys.executable
            store = Contender(name, python, Path(folder), limit=60)
            stack.callback(store.stop)
            store.ask("fresh")
            store.ask("bulk", 0, KEPT)
            store.ask("write", KEPT, DELETED)
            if not store.trouble and store.ask("held", KEPT, DELETED) < DELETED:
                raise SystemExit(f"{name}: its values cannot be found while they are there, so this shows nothing")
            left = store.ask("erase", KEPT, DELETED)
            store.ask("shut")
            after = store.ask("held", KEPT, DELETED)
            print(
                f"{name:29}{store.trouble or f'{left:.0f}':>20}{'' if store.trouble else f'{after:.0f}':>16}",
                flush=True,
            )


if __name__ == "__main__":
    main()
