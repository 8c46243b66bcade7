"""LangChain's contracts over a memory: a byte store, a vector store, a chat history.

Knows: langchain-core, Memory. Does not know: how anything is stored or found.

None of them owns anything: closing the memory is the caller's, and what the memory forgets they no longer find.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

try:
    from langchain_core.chat_history import BaseChatMessageHistory
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, messages_from_dict
    from langchain_core.stores import BaseStore
    from langchain_core.vectorstores import VectorStore
except ModuleNotFoundError as error:
    raise ImportError(f"extmem.adapters.langchain needs {error.name}: pip install 'extmem[langchain]'") from error

from extmem.adapters.nearest import fitting, unit
from extmem.adapters.turns import USER, Turn, Turns, named
from extmem.errors import InvalidInput, ModelError
from extmem.indexes.base import text_of
from extmem.memory import Memory
from extmem.records.base import Record
from extmem.records.where import Where
from extmem.tasks.chat import ASSISTANT
from extmem.text.given import GivenEncoder

SPEAKERS = {"human": USER, "ai": ASSISTANT, "AIMessageChunk": ASSISTANT, "HumanMessageChunk": USER, "system": "system"}


class ExtmemStore(BaseStore[str, bytes]):
    """The records of a memory as LangChain's ByteStore. A value that is not bytes is read as its text's."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        found = self.memory.retrieve_many(keys)
        return [_bytes(found[key]) if key in found else None for key in keys]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """All of them, or none."""
        self.memory.store_many(key_value_pairs)

    def mdelete(self, keys: Sequence[str]) -> None:
        self.memory.forget_many(keys)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        yield from self.memory.keys(prefix or "")


class ExtmemVectorStore(VectorStore):
    """The records of a memory as documents: the key is a document's id, the value its text.

    Searching is the memory's own (docs/search.md): by words, and with `embedding` by meaning too, unless `by` is
    "words". The memory keeps the name of its embedding model, `name` or else the class and model that `embedding`
    gives; another one than before embeds everything anew. Without `embedding` the memory is searched as it is.
    """

    def __init__(
        self,
        memory: Memory,
        embedding: Embeddings | None = None,
        *,
        by: Literal["all", "words"] = "all",
        name: str | None = None,
    ) -> None:
        self.memory, self.by = memory, by
        self._embedding, self._name = embedding, name
        self._encoder: GivenEncoder | None = None

    @property
    def embeddings(self) -> Embeddings | None:
        return self._embedding

    def add_documents(self, documents: list[Document], ids: list[str] | None = None, **kwargs: Any) -> list[str]:
        """Stores documents, all or none, in place of what has their ids; those without one get a new one. Raises
        InvalidInput for metadata that is no JSON."""
        given = [document.id for document in documents] if ids is None else ids
        if len(given) != len(documents):
            raise InvalidInput(f"{len(given)} ids for {len(documents)} documents: give one each, or none at all.", ids)
        keys = [key or str(uuid.uuid4()) for key in given]
        self._ready()
        with self.memory.transaction():
            for key, document in zip(keys, documents, strict=True):
                self.memory.store(key, document.page_content, metadata=document.metadata)
        if self._encoder is not None:
            try:
                self.memory.embed(self._encoder)
            except ModelError as error:  # what is stored stays
                warnings.warn(f"the documents are stored; the next search embeds them: {error}", stacklevel=2)
        return keys

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Forgets these documents, or all of them where `ids` is None; whether all of them were there."""
        keys = list(self.memory.keys()) if ids is None else ids
        return self.memory.forget_many(keys) == len(set(keys))

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Those that are there."""
        return [_document(record) for key in ids if (record := self.memory.record(key)) is not None]

    def similarity_search(self, query: str, k: int = 4, filter: Where | None = None, **kwargs: Any) -> list[Document]:
        """The k documents that answer `query` best. `filter` is a dict on the metadata, as {"year": {"$gte": 2020}}:
        extmem.records.where tells all of it."""
        return [document for document, _ in self._found(query, k, filter, 0.0, kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search`; a higher score is better."""
        return self._found(query, k, filter, 0.0, kwargs)

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `similarity_search`, the more unlike one another the smaller `lambda_mult` (1 to 0). The memory chooses
        from the best 4 k by itself: `fetch_k` has no say."""
        return [document for document, _ in self._found(query, k, filter, 1 - lambda_mult, kwargs)]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Where | None = None, **kwargs: Any
    ) -> list[Document]:
        """The k documents whose passages lie nearest to a vector. Raises InvalidInput for one of another width than the
        memory's, and where the memory has none."""
        _refuse(kwargs)
        self._ready()
        vectors, where = self.memory.derived.vectors(), _where(filter)
        if vectors is None:
            raise InvalidInput("this memory is not searched by meaning: give the store an embedding.")
        vector = unit(embedding)
        if vector.shape != (vectors.encoder.dim,):
            wide = f"a vector of width {len(vector)}, the memory's have {vectors.encoder.dim}"
            raise InvalidInput(f"{wide}: embed with the model it was embedded with.", embedding)
        vectors.catch_up()
        found = fitting(self.memory, lambda first: vectors.nearest(vector, first).tolist(), k, where)
        return list(map(_document, found))

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        memory: Memory | None = None,
        **kwargs: Any,
    ) -> ExtmemVectorStore:
        """A store over `memory`, or one in RAM, with these texts added."""
        store = cls(Memory() if memory is None else memory, embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Scores are sums without an upper bound: brought between 0 and 1, in their order."""
        return lambda score: max(score, 0.0) / (1 + max(score, 0.0))

    def _found(
        self, query: str, k: int, filter: Where | None, diversity: float, others: dict[str, Any]
    ) -> list[tuple[Document, float]]:
        _refuse(others)
        self._ready()
        hits = self.memory.search(query, k, _where(filter), by=self.by, diversity=diversity)
        there = [(self.memory.record(hit.key), hit.score) for hit in hits]
        return [(_document(record), score) for record, score in there if record is not None]

    def _ready(self) -> None:
        """Has the memory searched with the embedding given. Raises InvalidInput where it got another one since."""
        if self._embedding is None or self.by == "words":
            return
        if self._encoder is None:
            given, name = self._embedding, self._name or _name(self._embedding)
            encoder = GivenEncoder(name, given.embed_documents, given.embed_query)
            self.memory.embed(encoder)
            self._encoder = encoder
        elif (kept := self.memory.derived.model()) != self._encoder.name:
            cure = "a new store embeds it anew"
            raise InvalidInput(f"the memory was embedded with {kept} since, not {self._encoder.name}: {cure}.", kept)


class ExtmemChatHistory(BaseChatMessageHistory):
    """The messages of one conversation of one user, kept as `extmem chat` keeps its turns: in the namespace of that
    user, with what they state of themself. A conversation of `extmem chat` has a number: the one of its first turn."""

    def __init__(self, memory: Memory, session_id: str | int, user: str = USER) -> None:
        """Raises InvalidInput for a session or user without a name, or a user's with a "/"."""
        self.session_id, self._turns = named(session_id), Turns(memory, user, "langchain")

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        return [_message(key, turn) for key, turn in self._turns.of(self.session_id)]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Keeps messages, all or none. Raises InvalidInput for one with anything that is no JSON in it."""
        self._turns.add(self.session_id, map(_turn, messages))

    def clear(self) -> None:
        """Forgets the messages of this conversation, and what was learned from them alone."""
        self._turns.forget([key for key, _ in self._turns.of(self.session_id)])


def _turn(message: BaseMessage) -> Turn:
    """A message; its text is kept once where it is all of its content."""
    plain = isinstance(message.content, str)
    data = message.model_dump(exclude={"content"} if plain else None)
    text = message.content if isinstance(message.content, str) else str(message.text)
    return Turn(SPEAKERS.get(message.type, "tool"), text, {"type": message.type, "data": data})


def _message(key: str, turn: Turn) -> BaseMessage:
    """The message that a turn is; one of `extmem chat` has its key as id."""
    if turn.note:
        return messages_from_dict([{**turn.note, "data": {"content": turn.text, **turn.note["data"]}}])[0]
    return (AIMessage if turn.speaker == ASSISTANT else HumanMessage)(turn.text, id=key)


def _document(record: Record) -> Document:
    return Document(id=record.key, page_content=text_of(record), metadata=dict(record.metadata or {}))


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()


def _refuse(options: dict[str, Any]) -> None:
    """LangChain lets any option through: one that is misspelt would search for something else than was meant."""
    if options:
        raise InvalidInput(f"searching takes no {', '.join(options)}: give k and filter.", options)


def _where(filter: object) -> Where | None:
    """The memory's filter that one on metadata is."""
    if filter is None:
        return None
    if not isinstance(filter, Mapping):
        raise InvalidInput(f"filter is {filter!r}: give a dict on the metadata, such as {{'author': 'ann'}}.", filter)
    where: dict[str, object] = {}
    for name, wanted in filter.items():
        if name in ("$and", "$or") and isinstance(wanted, list | tuple):
            where[name] = [_where(part) for part in wanted]
        elif name == "$not":
            where[name] = _where(wanted)
        else:
            where[name if str(name).startswith("$") else f"metadata.{name}"] = wanted
    return where


def _name(embedding: Embeddings) -> str:
    """What tells one embedding model from another, as far as LangChain's classes say it."""
    said = (getattr(embedding, field, None) for field in ("model", "model_name", "model_id", "deployment"))
    return " ".join([type(embedding).__name__, *(one for one in said if isinstance(one, str))])
