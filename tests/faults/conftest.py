"""Prints the table of figures at the end of a run of all faults."""

from __future__ import annotations

import figures


def pytest_terminal_summary(terminalreporter) -> None:
    if figures.TABLE and figures.FULL:
        terminalreporter.write_line("")
        terminalreporter.write_line(figures.table())
