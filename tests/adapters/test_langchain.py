"""What users of LangChain do with a memory, beginning with LangChain's own suites."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed here: scripts/adapters runs these")

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests, VectorStoreIntegrationTests

from extmem import Memory
from extmem.adapters.langchain import ExtmemChatHistory, ExtmemStore, ExtmemVectorStore


@pytest.fixture(params=["ram", "folder"])
def memory(request, tmp_path):
    with Memory(None if request.param == "ram" else tmp_path / "m") as opened:
        yield opened


class ByteStore:
    @pytest.fixture
    def kv_store(self, memory):
        return ExtmemStore(memory)

    @pytest.fixture
    def three_values(self):
        return b"foo", b"bar", b"\0buzz"


class TestTheByteStore(ByteStore, BaseStoreSyncTests[bytes]):
    """LangChain's suite."""


class TestTheByteStoreAwaited(ByteStore, BaseStoreAsyncTests[bytes]):
    """LangChain's suite."""


class TestTheVectorStore(VectorStoreIntegrationTests):
    """LangChain's suite, synchronous and awaited."""

    @pytest.fixture
    def vectorstore(self, memory):
        return ExtmemVectorStore(memory, self.get_embeddings())
