"""Adapters where the library they are for is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("adapter", "library"), [("langchain", "langchain_core"), ("llamaindex", "llama_index")])
def test_an_adapter_without_its_library_says_what_to_install(adapter, library):
    code = f"import sys; sys.modules[{library!r}] = None; import extmem.adapters.{adapter}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = said.stderr.strip().splitlines()[-1]
    assert said.returncode == 1
    assert last.startswith(f"ImportError: extmem.adapters.{adapter} needs {library}")
    assert last.endswith(f"pip install 'extmem[{adapter}]'")
