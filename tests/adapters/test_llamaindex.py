"""What users of LlamaIndex do with a memory: LlamaIndex publishes no suite of its own for stores."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed here: `make adapters` runs these")

from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore
from llama_index.core.storage.index_store.keyval_index_store import KVIndexStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from extmem import Memory
from extmem.adapters.langchain import ExtmemChatHistory
from extmem.adapters.llamaindex import ExtmemChatStore, ExtmemKVStore, ExtmemVectorStore
from extmem.errors import InvalidInput, StorageError
from extmem.indexes.datastore import Limits
from extmem.tasks.chat import Chat

COLOURS = ("red", "green", "blue")


class Colours(BaseEmbedding):
    """How often each colour is named."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [0.1 + text.lower().count(colour) for colour in COLOURS]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def node(key: str, text: str, document: str = "fruit", **metadata) -> TextNode:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)}
    vector = Colours().get_text_embedding(text)
    return TextNode(id_=key, text=text, metadata=metadata, relationships=source, embedding=vector)


FRUIT = [
    node("apple", "Apples are red or green", kind="pome", year=2020, tags=["tree", "cider"]),
    node("pear", "Pears are green", kind="pome", year=2024, tags=["tree"]),
    node("plum", "Plums are blue", "stone", kind="drupe", year=2024, tags=[]),
]


@pytest.fixture(params=["ram", "folder"])
def memory(request, tmp_path):
    with Memory(None if request.param == "ram" else tmp_path / "m") as opened:
        yield opened


def fruit(memory: Memory) -> ExtmemVectorStore:
    store = ExtmemVectorStore(memory)
    assert store.add(FRUIT) == ["apple", "pear", "plum"]
    return store


def asked(text: str, k: int = 3, **how) -> VectorStoreQuery:
    return VectorStoreQuery(Colours().get_query_embedding(text), similarity_top_k=k, query_str=text, **how)


def where(key: str, operator: FilterOperator, value) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


# The vector store


def test_an_index_over_a_memory_retrieves_nodes_with_their_keys_and_scores(memory):
    documents = [Document(text="Apples are red", id_="a"), Document(text="Plums are blue", id_="b")]
    context = StorageContext.from_defaults(vector_store=ExtmemVectorStore(memory))
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=Colours())
    found = index.as_retriever(similarity_top_k=1).retrieve("something blue")
    assert found[0].node.get_content() == "Plums are blue"
    assert memory.retrieve(found[0].node.node_id) == "Plums are blue"
    assert found[0].score == pytest.approx(1.0, abs=1e-3)
    index.delete_ref_doc("b")
    assert len(memory) == 1
    assert index.as_retriever().retrieve("something blue")[0].node.ref_doc_id == "a"


def test_an_index_is_there_when_the_memory_is_opened_again(tmp_path):
    with Memory(tmp_path / "m") as memory:
        fruit(memory).persist("nowhere")
    with Memory(tmp_path / "m") as memory:
        index = VectorStoreIndex.from_vector_store(ExtmemVectorStore(memory), embed_model=Colours())
        found = asyncio.run(index.as_retriever(similarity_top_k=2).aretrieve("green"))
        assert [one.node.node_id for one in found] == ["pear", "apple"]


def test_a_mock_embedding_that_says_the_same_of_all_still_finds_all(memory):
    context = StorageContext.from_defaults(vector_store=ExtmemVectorStore(memory))
    index = VectorStoreIndex.from_documents(
        [Document(text=str(n)) for n in range(7)], storage_context=context, embed_model=MockEmbedding(5)
    )
    assert len(index.as_retriever(similarity_top_k=5).retrieve("any")) == 5
    assert len({one.node.node_id for one in index.as_retriever(similarity_top_k=9).retrieve("any")}) == 7


def test_nodes_come_back_as_they_were(memory):
    store = fruit(memory)
    found = {one.node_id: one for one in store.get_nodes()}
    for given in FRUIT:
        back = found[given.node_id]
        assert (back.text, back.metadata, back.relationships) == (given.text, given.metadata, given.relationships)
    assert store.get_nodes(["missing"]) == []
    assert [one.node_id for one in store.get_nodes(["plum", "apple"])] == ["plum", "apple"]


def test_a_record_that_a_person_stored_is_a_node(memory):
    memory.store("fig", "Figs are purple", metadata={"kind": "syconium"})
    found = fruit(memory).query(VectorStoreQuery(query_str="figs", similarity_top_k=1))
    assert [(one.node_id, one.text, one.metadata) for one in found.nodes] == [
        ("fig", "Figs are purple", {"kind": "syconium"})
    ]


@pytest.mark.parametrize(
    ("mode", "how", "found"),
    [
        (VectorStoreQueryMode.DEFAULT, {}, ["pear", "apple", "plum"]),
        (VectorStoreQueryMode.TEXT_SEARCH, {}, ["pear", "apple"]),
        (VectorStoreQueryMode.SPARSE, {"sparse_top_k": 1}, ["pear"]),
        (VectorStoreQueryMode.HYBRID, {"hybrid_top_k": 2}, ["pear", "apple"]),
        (VectorStoreQueryMode.MMR, {"mmr_threshold": 0.1}, ["pear", "plum", "apple"]),
    ],
)
def test_a_mode_ranks_in_its_way(memory, mode, how, found):
    result = fruit(memory).query(asked("green pears", mode=mode, **how))
    assert result.ids == found
    assert [one.node_id for one in result.nodes] == found
    if mode is not VectorStoreQueryMode.MMR:
        assert result.similarities == sorted(result.similarities, reverse=True)


def test_alpha_says_how_much_the_vector_counts(memory):
    store, vector = fruit(memory), Colours().get_query_embedding("blue")
    query = VectorStoreQuery(vector, 1, query_str="pears", mode=VectorStoreQueryMode.HYBRID, alpha=1.0)
    assert store.query(query).ids == ["plum"]
    query.alpha = 0.0
    assert store.query(query).ids == ["pear"]


@pytest.mark.parametrize(
    ("key", "operator", "value", "left"),
    [
        ("kind", FilterOperator.EQ, "pome", {"apple", "pear"}),
        ("kind", FilterOperator.NE, "pome", {"plum"}),
        ("year", FilterOperator.GT, 2020, {"pear", "plum"}),
        ("year", FilterOperator.GTE, 2020, {"apple", "pear", "plum"}),
        ("year", FilterOperator.LT, 2024, {"apple"}),
        ("year", FilterOperator.LTE, 2020, {"apple"}),
        ("kind", FilterOperator.IN, ["drupe", "nut"], {"plum"}),
        ("kind", FilterOperator.NIN, ["drupe", "nut"], {"apple", "pear"}),
        ("tags", FilterOperator.CONTAINS, "cider", {"apple"}),
        ("tags", FilterOperator.ANY, ["cider", "tree"], {"apple", "pear"}),
        ("tags", FilterOperator.ALL, ["cider", "tree"], {"apple"}),
        ("tags", FilterOperator.IS_EMPTY, None, {"plum"}),
        ("missing", FilterOperator.IS_EMPTY, None, {"apple", "pear", "plum"}),
    ],
)
def test_filters_mean_what_llamaindex_says(key, operator, value, left):
    store, filters = fruit(Memory()), where(key, operator, value)
    assert set(store.query(asked("green", filters=filters)).ids) == left
    assert {one.node_id for one in store.get_nodes(filters=filters)} == left


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        (FilterCondition.AND, {"pear"}),
        (FilterCondition.OR, {"apple", "pear", "plum"}),
        (FilterCondition.NOT, set()),
    ],
)
def test_conditions_join_filters_and_lie_within_one_another(condition, left):
    inner = where("kind", FilterOperator.EQ, "pome")
    both = MetadataFilters(filters=[inner, MetadataFilter(key="year", value=2024)], condition=condition)
    assert set(fruit(Memory()).query(asked("green", filters=both)).ids) == left


def test_a_query_is_restricted_to_documents_and_nodes(memory):
    store = fruit(memory)
    assert store.query(asked("green", doc_ids=["stone"])).ids == ["plum"]
    assert store.query(asked("green", node_ids=["apple", "plum"])).ids == ["apple", "plum"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (asked("green", filters=where("kind", FilterOperator.TEXT_MATCH, "po")), "does not filter by text_match"),
        (asked("green", mode=VectorStoreQueryMode.SVM), "mode svm: a memory has default"),
        (VectorStoreQuery([1.0, 2.0]), "a vector of width 2, the memory's have 3"),
        (VectorStoreQuery([float("nan")] * 3), "finite numbers"),
        (VectorStoreQuery(), "neither vector nor text"),
        (asked("green", k=0), "k is 0"),
    ],
)
def test_a_query_that_a_memory_cannot_answer_is_refused_in_one_line(query, said):
    with pytest.raises(InvalidInput, match=said):
        fruit(Memory()).query(query)


def test_nodes_with_vectors_of_two_widths_are_refused_and_none_is_kept(memory):
    store = ExtmemVectorStore(memory)
    with pytest.raises(InvalidInput, match="vectors of width 3 and 2 together"):
        store.add([FRUIT[0], TextNode(text="x", embedding=[1.0, 2.0])])
    assert len(memory) == 0
    store.add(FRUIT)
    with pytest.raises(InvalidInput, match="a vector of width 2, the memory's have 3"):
        store.add([TextNode(text="x", embedding=[1.0, 2.0])])


def test_many_nodes_are_found_by_codes_that_none_of_them_has_a_part_in(memory, monkeypatch):
    monkeypatch.setattr("extmem.indexes.vectors.LIMITS", Limits(exact=50, segment=64, minimum=8))
    draw = np.random.default_rng(0).standard_normal((300, 32))
    draw /= np.linalg.norm(draw, axis=1, keepdims=True)
    store = ExtmemVectorStore(memory)
    for start in range(0, 300, 40):
        some = range(start, min(start + 40, 300))
        store.add([TextNode(id_=f"n{n}", text=f"the text of {n}", embedding=draw[n].tolist()) for n in some])
    assert memory.stats()["embeddings"]["search"] == "all codes"
    for n in range(0, 300, 29):
        query = VectorStoreQuery(
            query_embedding=draw[n].tolist(), similarity_top_k=5, mode=VectorStoreQueryMode.DEFAULT
        )
        assert store.query(query).ids == [f"n{m}" for m in np.argsort(-(draw @ draw[n]), kind="stable")[:5]]


def test_a_node_that_is_added_again_takes_the_place_of_the_one_before(memory):
    store = fruit(memory)
    store.add([node("pear", "Pears are green"), node("pear", "Pears are blue, blue, blue")])
    assert store.query(asked("blue, blue, blue", k=1)).ids == ["pear"]
    assert len(memory) == 3
    again = node("pear", "Pears are blue, blue, blue")
    again.embedding = [9.0, 0.0, 0.0]  # the record stays, its vector does not
    store.add([again])
    assert store.query(asked("red", k=1)).ids == ["pear"]
    assert memory.stats()["embeddings"]["entries"] == 3
    assert memory.datastores() == []  # of language models


def answers(store: ExtmemVectorStore) -> list:
    modes = [VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.HYBRID]
    found = [store.query(asked(text, k=5, mode=mode)) for text in ("green pears", "red", "blue") for mode in modes]
    entries = store.client.stats()["embeddings"]["entries"]
    return [*((one.ids, one.similarities) for one in found), entries, store.client.verify()]


@pytest.mark.parametrize(
    "delete",
    [
        lambda store: store.delete("fruit"),
        lambda store: store.delete_nodes(["apple", "pear"]),
        lambda store: store.delete_nodes(filters=where("kind", FilterOperator.EQ, "pome")),
        lambda store: asyncio.run(store.adelete_nodes(["apple", "pear"])),
        lambda store: store.client.forget_many(["apple", "pear"]),
    ],
    ids=["document", "ids", "filters", "awaited", "memory"],
)
def test_deleting_equals_never_having_added(memory, delete):
    store, never = fruit(memory), ExtmemVectorStore(Memory())
    never.add(FRUIT[2:])
    assert answers(store) != answers(never)
    delete(store)
    assert answers(store) == answers(never)


def test_all_are_deleted_only_by_name(memory):
    store = fruit(memory)
    with pytest.raises(InvalidInput, match=r"call clear\(\)"):
        store.delete_nodes()
    store.clear()
    assert len(memory) == 0
    store.add([TextNode(text="x", embedding=[1.0, 2.0])])  # of any width again
    assert store.query(VectorStoreQuery([1.0, 2.0])).similarities == [pytest.approx(1, abs=1e-3)]


def test_a_memory_that_may_not_be_written_is_queried_and_refuses_to_be_added_to(tmp_path, monkeypatch):
    with Memory(tmp_path / "m") as memory:
        fruit(memory)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as on a read-only disk; root may write anywhere
    with Memory(tmp_path / "m") as memory:
        store = ExtmemVectorStore(memory)
        assert store.query(asked("blue", k=1)).ids == ["plum"]
        with pytest.raises(StorageError, match="may not be written"):
            store.add([node("fig", "Figs are blue")])


# The key-value store


def test_a_document_store_and_an_index_store_survive_in_a_memory(tmp_path):
    with Memory(tmp_path / "m") as memory:
        store = KVDocumentStore(ExtmemKVStore(memory))
        store.add_documents(FRUIT)
        store.set_document_hash("fruit", "hash")
        assert memory.namespaces() == ["docstore/data", "docstore/metadata", "docstore/ref_doc_info"]
    with Memory(tmp_path / "m") as memory:
        store = KVDocumentStore(ExtmemKVStore(memory))
        assert store.get_document("pear") == FRUIT[1]
        assert store.get_document_hash("fruit") == "hash"
        assert set(store.get_ref_doc_info("fruit").node_ids) == {"apple", "pear"}
        store.delete_ref_doc("fruit")
        assert set(store.docs) == {"plum"}


def test_an_index_lives_wholly_in_a_memory(tmp_path):
    def context(memory: Memory) -> StorageContext:
        store = ExtmemKVStore(memory)
        return StorageContext.from_defaults(
            docstore=KVDocumentStore(store),
            index_store=KVIndexStore(store),
            vector_store=ExtmemVectorStore(memory.namespace("nodes")),
        )

    from llama_index.core import load_index_from_storage

    with Memory(tmp_path / "m") as memory:
        index = VectorStoreIndex(
            FRUIT, storage_context=context(memory), embed_model=Colours(), store_nodes_override=True
        )
        name = index.index_id
    with Memory(tmp_path / "m") as memory:
        index = load_index_from_storage(context(memory), index_id=name, embed_model=Colours())
        assert index.as_retriever(similarity_top_k=1).retrieve("blue")[0].node.node_id == "plum"


def test_keys_lie_in_collections_that_do_not_see_each_other(memory):
    store = ExtmemKVStore(memory)
    store.put("a", {"n": 1}, "one")
    store.put_all([("a", {"n": 2}), ("b", {"n": [FilterOperator.EQ]})], "two", batch_size=100)
    assert store.get("a", "one") == {"n": 1}
    assert store.get("b", "one") is None
    assert store.get_all("two") == {"a": {"n": 2}, "b": {"n": ["=="]}}
    assert store.delete("a", "two")
    assert not store.delete("a", "two")
    assert memory.at("two").retrieve("a") is None
    with pytest.raises(InvalidInput, match="no JSON"):
        store.put("c", {"n": object()})


def test_keys_are_awaited(memory):
    async def use():
        store = ExtmemKVStore(memory)
        await store.aput("a", {"n": 1})
        await store.aput_all([("b", {"n": 2})])
        return await store.aget("a"), await store.adelete("a"), await store.aget_all()

    assert asyncio.run(use()) == ({"n": 1}, True, {"b": {"n": 2}})


def test_a_pipeline_ingests_only_what_it_has_not_seen(memory):
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), Colours()],
        docstore=KVDocumentStore(ExtmemKVStore(memory)),
        vector_store=ExtmemVectorStore(memory.namespace("nodes")),
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )
    assert len(pipeline.run(documents=[Document(text="Apples are red", id_="a")], show_progress=False)) == 1
    assert pipeline.run(documents=[Document(text="Apples are red", id_="a")]) == []
    pipeline.run(documents=[Document(text="Apples are blue", id_="a")])
    assert [value for _, value in memory.namespace("nodes").items()] == ["Apples are blue"]


# Conversations

SAID = [
    ChatMessage("Be brief.", role=MessageRole.SYSTEM),
    ChatMessage("I live in Paris.", role=MessageRole.USER),
    ChatMessage(role=MessageRole.ASSISTANT, blocks=[], additional_kwargs={"tool_calls": [{"id": "1", "name": "map"}]}),
    ChatMessage("48 N, 2 E", role=MessageRole.TOOL, additional_kwargs={"tool_call_id": "1"}),
    ChatMessage(
        role=MessageRole.USER,
        blocks=[TextBlock(text="And this?"), ImageBlock(url="http://x/y.png"), TextBlock(text="?")],
    ),
]


def test_messages_of_every_kind_come_back_equal_after_the_memory_was_closed(tmp_path):
    with Memory(tmp_path / "m") as memory:
        ExtmemChatStore(memory, "ann").set_messages("trip", SAID)
    with Memory(tmp_path / "m") as memory:
        assert ExtmemChatStore(memory, "ann").get_messages("trip") == SAID


def test_conversations_and_users_never_see_each_other(memory):
    ann, bob = ExtmemChatStore(memory, "ann"), ExtmemChatStore(memory, "bob")
    ann.add_message("trip", SAID[1])
    ann.add_message("work", SAID[0])
    assert bob.get_messages("trip") == []
    assert bob.get_keys() == []
    assert ann.get_keys() == ["trip", "work"]
    assert ann.get_messages("trip") == [SAID[1]]
    assert bob.delete_messages("trip") is None


def test_messages_are_deleted_by_their_place(memory):
    store = ExtmemChatStore(memory)
    store.set_messages("trip", SAID)
    assert store.delete_message("trip", 1) == SAID[1]
    assert store.delete_last_message("trip") == SAID[4]
    assert store.delete_message("trip", 3) is None
    assert asyncio.run(store.aget_messages("trip")) == [SAID[0], SAID[2], SAID[3]]
    assert store.delete_messages("trip") == [SAID[0], SAID[2], SAID[3]]
    assert store.delete_last_message("trip") is None


def test_a_chat_memory_buffer_goes_on_over_the_store(memory):
    for text in ("one", "two"):
        buffer = ChatMemoryBuffer.from_defaults(
            token_limit=1000, chat_store=ExtmemChatStore(memory), chat_store_key="trip", tokenizer_fn=str.split
        )
        buffer.put(ChatMessage(text))
    assert [message.content for message in buffer.get()] == ["one", "two"]
    buffer.reset()
    assert ExtmemChatStore(memory).get_keys() == []


def test_what_was_said_is_read_by_langchain_and_remembered_by_extmem_chat(memory):
    pytest.importorskip("langchain_core")
    ExtmemChatStore(memory, "ann").set_messages("trip", SAID)
    ExtmemChatHistory(memory, "trip", "ann").add_ai_message("Noted.")
    texts = [message.content for message in ExtmemChatHistory(memory, "trip", "ann").messages]
    assert texts == ["Be brief.", "I live in Paris.", "", "48 N, 2 E", "And this?\n?", "Noted."]
    assert ExtmemChatStore(memory, "ann").get_messages("trip")[-1] == ChatMessage("Noted.", role="assistant")
    chat = Chat(memory, "ann", words=True)
    assert chat.say("Where do I live?").text == "I live in Paris"
    assert [message.role for message in ExtmemChatStore(memory, "ann").get_messages(7)] == ["user", "assistant"]
    assert ExtmemChatStore(memory, "ann").get_keys() == ["trip"]
