"""LlamaIndex's contracts over a memory: a vector store, a key-value store, a chat store.

Knows: llama-index-core, Memory, a datastore. Does not know: how anything is stored or found.

None of them owns anything: closing the memory is the caller's, and what the memory forgets they no longer find.
A node is a record: its id the key, its text the value; its vector, which LlamaIndex makes, lies in a datastore as an
entry of that record, so it goes when the record goes. Nothing has to be persisted: it is, when a call returns.
Shapes: N nodes, D width of a vector.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

try:
    from llama_index.core.base.llms.types import ChatMessage, TextBlock
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
    from llama_index.core.schema import BaseNode, MetadataMode, TextNode
    from llama_index.core.storage.chat_store.base import BaseChatStore
    from llama_index.core.storage.kvstore.types import DEFAULT_COLLECTION, BaseKVStore
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ModuleNotFoundError as error:
    raise ImportError(f"extmem.adapters.llamaindex needs {error.name}: pip install 'extmem[llamaindex]'") from error

import numpy as np
from numpy.typing import NDArray

from extmem.adapters.metadata_filters import restricted, where_of
from extmem.adapters.nearest import fitting, unit
from extmem.adapters.turns import OTHERS, USER, Turn, Turns
from extmem.errors import InvalidInput
from extmem.indexes.base import VECTORS, text_of
from extmem.indexes.datastore import Datastore, Entries
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.records.where import Where, filtered
from extmem.tasks.chat import ASSISTANT

POOL = 4  # times k nodes are looked at where they are ranked anew
SPEAKERS = {"user": USER, "assistant": ASSISTANT, "chatbot": ASSISTANT, "model": ASSISTANT, "system": "system"}
Found = list[tuple[Record, float]]


class ExtmemVectorStore(BasePydanticVectorStore):
    """The records of a memory as nodes. A record that LlamaIndex did not write is a TextNode, found by its words.

    Modes: default (by the query's vector, or by words where it has none), text_search and sparse (by words), hybrid
    (`alpha` of the cosine, the rest of the words' score as a part of the best), mmr.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    _memory: Memory = PrivateAttr()

    def __init__(self, memory: Memory) -> None:
        super().__init__(stores_text=True)
        self._memory = memory

    @classmethod
    def class_name(cls) -> str:
        return "ExtmemVectorStore"

    @property
    def client(self) -> Memory:
        return self._memory

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Stores nodes, all or none, in place of what has their ids; one without a vector is found by words. Raises
        InvalidInput for vectors of another width than the memory's."""
        with self._memory.transaction():
            added: dict[int, NDArray[np.float32]] = {}
            for node in {node.node_id: node for node in nodes}.values():
                text = node.get_content(metadata_mode=MetadataMode.NONE)
                self._memory.store(node.node_id, text, metadata=node_to_metadata_dict(node, remove_text=True))
                record = self._memory.record(node.node_id)
                assert record is not None
                self._drop(record)
                if node.embedding is not None:
                    added[record.id] = unit(node.embedding)
            if added:
                datastore = self._vectors(len(next(iter(added.values()))))
                datastore.append([_entry(number, vector, datastore.dim) for number, vector in added.items()])
        return [node.node_id for node in nodes]

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Those of these nodes, or of all, that are there and that the filters let through."""
        return [_node(record) for record in self._chosen(node_ids, where_of(filters))]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Forgets every node of a document."""
        self._forget(self._chosen(None, {"metadata.ref_doc_id": ref_doc_id}))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Forgets these nodes, of them those that the filters let through. Raises InvalidInput where neither is given:
        `clear` forgets all."""
        if node_ids is None and filters is None:
            raise InvalidInput("delete_nodes without ids and filters: give one of them, or call clear().")
        self._forget(self._chosen(node_ids, where_of(filters)))

    def clear(self) -> None:
        """Forgets every record of this memory's namespace."""
        self._memory.forget_many(list(self._memory.keys()))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that answer best, the best first. Raises InvalidInput for a mode or a filter that there is not, and
        for a vector of another width than the memory's."""
        found = self._found(query, restricted(query))
        return VectorStoreQueryResult(
            [_node(record) for record, _ in found],
            [score for _, score in found],
            [record.key for record, _ in found],
        )

    def _found(self, query: VectorStoreQuery, where: Where | None) -> Found:
        mode, k = query.mode, query.similarity_top_k
        if mode in (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE):
            return self._by_words(query, query.sparse_top_k or k, where)
        if query.query_embedding is None:
            return self._by_words(query, k, where)
        vector = unit(query.query_embedding)
        if mode == VectorStoreQueryMode.DEFAULT:
            return self._by_vector(vector, k, where)
        if mode == VectorStoreQueryMode.HYBRID:
            return self._by_both(query, vector, query.hybrid_top_k or k, where)
        if mode == VectorStoreQueryMode.MMR:
            return self._unlike(vector, k, where, query.mmr_threshold)
        raise InvalidInput(f"mode {mode.value}: a memory has default, text_search, sparse, hybrid and mmr.", mode)

    def _by_words(self, query: VectorStoreQuery, k: int, where: Where | None) -> Found:
        if query.query_str is None:
            raise InvalidInput("a query with neither vector nor text: give query_embedding or query_str.", query)
        hits = self._memory.search(query.query_str, k, where, by="words")
        there = [(self._memory.record(hit.key), hit.score) for hit in hits]
        return [(record, score) for record, score in there if record is not None]

    def _by_vector(self, vector: NDArray[np.float32], k: int, where: Where | None) -> Found:
        view = self._vectors(len(vector)).view()

        def nearest(first: int) -> list[int]:
            entries, _ = view.search(vector[None], min(first, len(view)))
            ids: list[int] = view.records(entries[0][entries[0] >= 0]).tolist()
            return ids

        found = fitting(self._memory, nearest, k, where)
        return list(zip(found, (self._of(found, len(vector)) @ vector).tolist(), strict=True))

    def _by_both(self, query: VectorStoreQuery, vector: NDArray[np.float32], k: int, where: Where | None) -> Found:
        alpha = 0.5 if query.alpha is None else query.alpha
        words = {record.key: (record, score) for record, score in self._by_words(query, POOL * k, where)}
        near = {record.key: record for record, _ in self._by_vector(vector, POOL * k, where)}
        records = list(({key: record for key, (record, _) in words.items()} | near).values())
        top = max((score for _, score in words.values()), default=1.0) or 1.0
        cosines = (self._of(records, len(vector)) @ vector).tolist()
        said = [words[record.key][1] / top if record.key in words else 0.0 for record in records]
        scores = [alpha * cosine + (1 - alpha) * word for cosine, word in zip(cosines, said, strict=True)]
        return sorted(zip(records, scores, strict=True), key=lambda pair: (-pair[1], pair[0].key))[:k]

    def _unlike(self, vector: NDArray[np.float32], k: int, where: Where | None, threshold: float | None) -> Found:
        some = [record for record, _ in self._by_vector(vector, POOL * k, where)]
        scores, places = get_top_k_mmr_embeddings(
            vector.tolist(),
            self._of(some, len(vector)).tolist(),
            similarity_top_k=k,
            embedding_ids=list(range(len(some))),
            mmr_threshold=threshold,
        )
        return [(some[place], score) for place, score in zip(places, scores, strict=True)]

    def _of(self, records: Sequence[Record], dim: int) -> NDArray[np.float32]:
        """(N, D): the vectors of records; zeros for one without."""
        view, found = self._vectors(dim).view(), np.zeros((len(records), dim), np.float32)
        entries = view.of([record.id for record in records])
        if len(entries):
            at = {record.id: place for place, record in enumerate(records)}
            found[[at[number] for number in view.records(entries).tolist()]] = view.keys(entries)
        return found

    def _vectors(self, dim: int) -> Datastore:
        """The datastore of vectors. Raises InvalidInput where it has some of another width."""
        for there in self._given():
            if there.dim != dim:
                cure = "embed with the model it was filled with, or take another namespace"
                raise InvalidInput(f"a vector of width {dim}, the memory's have {there.dim}: {cure}.", dim)
        return self._memory.derived.datastore(f"{VECTORS}{dim}", dim)

    def _given(self) -> list[Datastore]:
        return [one for one in self._memory.derived.datastores() if one.fingerprint.startswith(VECTORS)]

    def _drop(self, record: Record) -> None:
        """Drops the vector that a node had before."""
        for there in self._given():
            if there.holds(record.id):
                there.discard(record)

    def _chosen(self, node_ids: list[str] | None, where: Where | None) -> list[Record]:
        if node_ids is None:
            return list(self._memory.scan(where=where))
        passes, there = filtered(where), map(self._memory.record, dict.fromkeys(node_ids))
        return [record for record in there if record is not None and passes(record)]

    def _forget(self, records: Sequence[Record]) -> None:
        self._memory.forget_many([record.key for record in records])


class ExtmemKVStore(BaseKVStore):
    """A memory under LlamaIndex's document stores, index stores and others that take a key-value store. A collection
    is a namespace: "docstore/data" is data within docstore."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        self.put_all([(key, val)], collection)

    def put_all(
        self, kv_pairs: list[tuple[str, dict[str, Any]]], collection: str = DEFAULT_COLLECTION, batch_size: int = 1
    ) -> None:
        """All of them, or none, whatever `batch_size` says. Raises InvalidInput for a value that is no JSON."""
        self.memory.at(collection).store_many([(key, _json(value)) for key, value in kv_pairs])

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        found = self.memory.at(collection).retrieve(key)
        return found if isinstance(found, dict) else None

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        return {key: value for key, value in self.memory.at(collection).items() if isinstance(value, dict)}

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Forgets a key; False if it was not there."""
        return self.memory.at(collection).forget(key)

    async def aput(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        await asyncio.to_thread(self.put, key, val, collection)

    async def aput_all(
        self, kv_pairs: list[tuple[str, dict[str, Any]]], collection: str = DEFAULT_COLLECTION, batch_size: int = 1
    ) -> None:
        await asyncio.to_thread(self.put_all, kv_pairs, collection, batch_size)

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        return await asyncio.to_thread(self.get, key, collection)

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        return await asyncio.to_thread(self.get_all, collection)

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        return await asyncio.to_thread(self.delete, key, collection)


class ExtmemChatStore(BaseChatStore):
    """The conversations of one user, a key each, kept as `extmem chat` keeps its turns: in the namespace of that user,
    with what they state of themself. Raises InvalidInput for a user without a name, or one with a "/"."""

    _turns: Turns = PrivateAttr()

    def __init__(self, memory: Memory, user: str = USER) -> None:
        super().__init__()
        self._turns = Turns(memory, user, "llamaindex")

    @classmethod
    def class_name(cls) -> str:
        return "ExtmemChatStore"

    def get_messages(self, key: str | int) -> list[ChatMessage]:
        return [_message(turn) for _, turn in self._turns.of(key)]

    def add_message(self, key: str, message: ChatMessage) -> None:
        self._turns.add(key, [_turn(message)])

    def set_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """These in place of what was there."""
        with self._turns.chat.memory.transaction():
            self.delete_messages(key)
            self._turns.add(key, map(_turn, messages))

    def delete_messages(self, key: str) -> list[ChatMessage] | None:
        """Forgets a conversation; its messages, None where there were none."""
        return self._deleted(self._turns.of(key))

    def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Forgets one message; None where there is none at that place."""
        there = self._turns.of(key)
        gone = self._deleted(there[idx : idx + 1] if idx >= 0 else there[idx:][:1] if -idx <= len(there) else [])
        return gone[0] if gone else None

    def delete_last_message(self, key: str) -> ChatMessage | None:
        return self.delete_message(key, -1)

    def get_keys(self) -> list[str]:
        """The keys of conversations. Those of `extmem chat` have numbers, by which they are read: `get_messages(1)`."""
        return self._turns.conversations()

    def _deleted(self, turns: list[tuple[str, Turn]]) -> list[ChatMessage] | None:
        self._turns.forget([key for key, _ in turns])
        return [_message(turn) for _, turn in turns] or None


def _turn(message: ChatMessage) -> Turn:
    """A message; its text is kept once where it is all there is."""
    plain = len(message.blocks) == 1 and type(message.blocks[0]) is TextBlock
    note = message.model_dump(mode="json", exclude={"blocks"} if plain else None)
    return Turn(SPEAKERS.get(message.role.value, "tool"), message.content or "", note)


def _message(turn: Turn) -> ChatMessage:
    if not turn.note:
        return ChatMessage(role=turn.speaker if turn.speaker in (ASSISTANT, *OTHERS) else "user", content=turn.text)
    blocks = turn.note.get("blocks", [{"block_type": "text", "text": turn.text}])
    return ChatMessage.model_validate({**turn.note, "blocks": blocks})


def _entry(record_id: int, vector: NDArray[np.float32], dim: int) -> Entries:
    if len(vector) != dim:
        raise InvalidInput(f"vectors of width {dim} and {len(vector)} together: embed with one model.", vector)
    return Entries(record_id, vector[None], np.zeros(1, np.int32), np.zeros((1, 2), np.int64))


def _node(record: Record) -> BaseNode:
    metadata, text = record.metadata or {}, text_of(record)
    if "_node_content" in metadata:
        return metadata_dict_to_node(metadata, text)
    return TextNode(id_=record.key, text=text, metadata=metadata)


def _json(value: object) -> object:
    """As JSON has it: enumerations as their text, tuples as lists."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a value that is no JSON ({error}): give text, numbers, lists and dicts.", value) from error
