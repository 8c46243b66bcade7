"""What users of LangChain do with a memory; LangChain's own suites first."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed here: `make adapters` runs these")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests, VectorStoreIntegrationTests

from extmem import Memory
from extmem.adapters.langchain import ExtmemChatHistory, ExtmemStore, ExtmemVectorStore
from extmem.errors import InvalidInput, ModelError, StorageError
from extmem.tasks.chat import Chat

FRUIT = [
    Document(id="apple", page_content="Apples are red or green", metadata={"kind": "pome", "year": 2020}),
    Document(id="pear", page_content="Pears are green", metadata={"kind": "pome", "year": 2024}),
    Document(id="plum", page_content="Plums are blue", metadata={"kind": "drupe", "year": 2024}),
]
SAID = [
    SystemMessage("Be brief.", id="s"),
    HumanMessage("What is the weather in Paris?", name="ann"),
    AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Paris", "days": [1, 2]}, "id": "c1"}]),
    ToolMessage("18 degrees", tool_call_id="c1", artifact={"raw": 18.0}),
    AIMessage([{"type": "text", "text": "Mild."}], response_metadata={"model_name": "m"}),
    HumanMessage([{"type": "text", "text": "And this?"}, {"type": "image_url", "image_url": {"url": "http://x/y"}}]),
]


@pytest.fixture(params=["ram", "folder"])
def memory(request, tmp_path):
    with Memory(None if request.param == "ram" else tmp_path / "m") as opened:
        yield opened


def embedding(size: int = 6) -> DeterministicFakeEmbedding:
    return DeterministicFakeEmbedding(size=size)


def fruit(memory: Memory, **how) -> ExtmemVectorStore:
    store = ExtmemVectorStore(memory, embedding(), **how)
    store.add_documents(FRUIT)
    return store


def ids(documents) -> list[str]:
    return [document.id for document in documents]


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


def test_what_people_stored_in_the_memory_is_read_as_bytes(memory):
    memory.store("text", "ä")
    memory.store("list", [1, "ä"])
    assert ExtmemStore(memory).mget(["text", "list", "missing"]) == ["ä".encode(), '[1, "ä"]'.encode(), None]


def test_keys_are_found_by_their_prefix(memory):
    store = ExtmemStore(memory)
    store.mset([("a/1", b"1"), ("b/1", b"2"), ("a/2", b"3")])
    assert list(store.yield_keys(prefix="a/")) == ["a/1", "a/2"]


def test_what_the_memory_forgets_no_adapter_finds(memory):
    store = fruit(memory)
    memory.forget("pear")
    assert store.get_by_ids(["pear"]) == []
    assert ids(store.similarity_search("Pears are green", k=3)) == ["apple", "plum"]
    assert "pear" not in ids(store.similarity_search_by_vector(embedding().embed_query("Pears are green"), k=3))
    assert ExtmemStore(memory).mget(["pear"]) == [None]


def answers(store: ExtmemVectorStore) -> list:
    asked = ["Pears are green", "blue", "what is green?"]
    return [
        *(store.similarity_search_with_score(query, k=5) for query in asked),
        *(store.similarity_search_by_vector(embedding().embed_query(query), k=5) for query in asked),
        *(ids(ExtmemVectorStore(store.memory, by="words").similarity_search(query)) for query in asked),
        store.memory.stats()["embeddings"]["entries"],
        store.memory.verify(),
    ]


def test_deleting_a_document_equals_never_having_added_it(memory):
    store, never = fruit(memory), ExtmemVectorStore(Memory(), embedding())
    never.add_documents([FRUIT[0], FRUIT[2]])
    assert answers(store) != answers(never)
    assert store.delete(["pear"])
    assert answers(store) == answers(never)


def test_deleting_says_whether_all_were_there_and_without_ids_deletes_all(memory):
    store = fruit(memory)
    assert not store.delete(["plum", "missing"])
    assert store.delete()
    assert len(memory) == 0


def test_documents_are_found_by_words_where_there_is_no_embedding(memory):
    store = ExtmemVectorStore(memory)
    store.add_documents(FRUIT)
    assert ids(store.similarity_search("the colour of plums")) == ["plum"]
    with pytest.raises(InvalidInput, match="not searched by meaning: give the store an embedding"):
        store.similarity_search_by_vector([0.0] * 6)


def test_records_that_people_stored_are_documents(memory):
    memory.store("fig", "Figs are purple", metadata={"kind": "syconium"})
    found = ExtmemVectorStore(memory, embedding()).similarity_search("figs", k=1)
    assert found == [Document(id="fig", page_content="Figs are purple", metadata={"kind": "syconium"})]


def test_texts_make_a_store_that_retrieves(memory):
    store = ExtmemVectorStore.from_texts(
        ["red", "blue"], embedding(), [{"n": 1}, {"n": 2}], ids=["r", "b"], memory=memory
    )
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"n": 2}})
    assert retriever.invoke("red") == [Document(id="b", page_content="blue", metadata={"n": 2})]
    assert memory.retrieve("r") == "red"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"kind": "pome"}, {"apple", "pear"}),
        ({"year": {"$gt": 2020}}, {"pear", "plum"}),
        ({"kind": {"$in": ["drupe", "nut"]}}, {"plum"}),
        ({"$or": [{"kind": "drupe"}, {"year": {"$lt": 2021}}]}, {"apple", "plum"}),
        ({"$not": {"kind": "pome"}}, {"plum"}),
        ({"kind": "pome", "year": {"$ne": 2020}}, {"pear"}),
    ],
)
def test_a_filter_is_on_the_metadata(given, left):
    store = fruit(Memory())
    assert set(ids(store.similarity_search("green", k=3, filter=given))) == left
    near = store.similarity_search_by_vector(embedding().embed_query("green"), k=1, filter=given)
    assert len(near) == 1
    assert near[0].id in left


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda document: True, "give a dict on the metadata"),
        ({"year": {"$regex": "2"}}, r"there is no \$regex"),
        ({"$nor": [{"kind": "pome"}]}, r"there is no field '\$nor'"),
        ({"$and": {"kind": "pome"}}, r"\$and takes a list"),
    ],
)
def test_a_filter_that_a_memory_has_not_is_refused_in_one_line(given, said):
    with pytest.raises(InvalidInput, match=said):
        fruit(Memory()).similarity_search("green", filter=given)


def test_an_option_that_there_is_not_is_refused(memory):
    with pytest.raises(InvalidInput, match="searching takes no filters: give k and filter"):
        fruit(memory).as_retriever(search_kwargs={"filters": {"kind": "pome"}}).invoke("green")


def test_relevance_lies_between_0_and_1_in_the_order_of_the_scores(memory):
    store = fruit(memory)
    found = store.similarity_search_with_relevance_scores("Pears are green", k=3)
    assert ids(document for document, _ in found) == ids(store.similarity_search("Pears are green", k=3))
    scores = [score for _, score in found]
    assert 1 > scores[0] > scores[1] >= scores[2] >= 0
    threshold = (scores[0] + scores[1]) / 2
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": threshold}
    )
    assert ids(retriever.invoke("Pears are green")) == ["pear"]


def test_marginal_relevance_leaves_out_what_says_the_same(memory):
    store = ExtmemVectorStore(memory)
    store.add_texts(["green pears", "green pears", "green apples"], ids=["a", "b", "c"])
    assert ids(store.similarity_search("green pears", k=2)) == ["a", "b"]
    assert ids(store.max_marginal_relevance_search("green pears", k=2, lambda_mult=0.2)) == ["a", "c"]


def test_a_vector_of_another_width_is_refused(memory):
    with pytest.raises(InvalidInput, match="a vector of width 3, the memory's have 6"):
        fruit(memory).similarity_search_by_vector([1.0, 0.0, 0.0])


def test_another_embedding_embeds_everything_anew_and_the_store_before_says_so(memory):
    before, now = fruit(memory), ExtmemVectorStore(memory, embedding(9), name="another")
    assert ids(now.similarity_search("Plums are blue", k=1)) == ["plum"]
    assert memory.stats()["embeddings"]["dim"] == 9
    with pytest.raises(InvalidInput, match="embedded with given:another since"):
        before.similarity_search("Plums are blue")


def test_an_embedding_that_fails_is_one_line_and_nothing_is_half_there(memory):
    class Broken(DeterministicFakeEmbedding):
        def embed_query(self, text):
            raise ConnectionError("no route\nto host")

    with pytest.raises(ModelError, match=r"given:Broken did not embed \(ConnectionError: no route\)"):
        ExtmemVectorStore(memory, Broken(size=6)).add_documents(FRUIT)
    assert len(memory) == 0


def test_documents_whose_embedding_failed_are_there_and_embedded_by_the_next_search(memory):
    class Flaky(DeterministicFakeEmbedding):
        down: bool = True

        def embed_documents(self, texts):
            if self.down:
                raise TimeoutError("busy")
            return super().embed_documents(texts)

    flaky = Flaky(size=6)
    store = ExtmemVectorStore(memory, flaky)
    with pytest.warns(UserWarning, match="the documents are stored; the next search embeds them: .*busy"):
        store.add_documents(FRUIT)
    flaky.down = False
    assert ids(store.similarity_search_by_vector(flaky.embed_query("Plums are blue"), k=1)) == ["plum"]


@pytest.mark.parametrize(
    ("documents", "given", "said"),
    [(FRUIT, ["a"], "1 ids for 3 documents"), ([Document("x", metadata={"when": {1, 2}})], None, "type set")],
)
def test_documents_that_cannot_be_kept_are_refused_and_none_is(memory, documents, given, said):
    with pytest.raises(InvalidInput, match=said):
        ExtmemVectorStore(memory).add_documents([*documents], ids=given)
    assert len(memory) == 0


def test_a_namespace_is_a_store_of_its_own(memory):
    store = fruit(memory.namespace("shop"))
    other = ExtmemVectorStore(memory.namespace("garden"), embedding())
    assert other.similarity_search("Pears are green") == []
    assert ids(store.similarity_search("Pears are green", k=1)) == ["pear"]


def test_a_store_is_there_in_another_process_and_without_its_embedding_searched_by_words(tmp_path):
    with Memory(tmp_path / "m") as memory:
        fruit(memory)
    with Memory(tmp_path / "m") as memory:
        store = ExtmemVectorStore(memory, embedding())
        assert ids(store.similarity_search_by_vector(embedding().embed_query("Plums are blue"), k=1)) == ["plum"]
    with Memory(tmp_path / "m") as memory:
        with pytest.warns(UserWarning, match="by words alone: the embedding model given:DeterministicFakeEmbedding"):
            assert ids(ExtmemVectorStore(memory).similarity_search("plums")) == ["plum"]
        with pytest.raises(ModelError, match="at hand only in the program that gave it"):
            memory.embed()


def test_a_memory_that_may_not_be_written_is_searched_and_refuses_to_be_added_to(tmp_path, monkeypatch):
    with Memory(tmp_path / "m") as memory:
        fruit(memory)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as on a read-only disk; root may write anywhere
    with Memory(tmp_path / "m") as memory:
        store = ExtmemVectorStore(memory, embedding())
        assert ids(store.similarity_search("Plums are blue", k=1)) == ["plum"]
        with pytest.raises(StorageError, match="may not be written"):
            store.add_documents(FRUIT[:1], ids=["again"])


# Conversations


def test_messages_of_every_kind_come_back_equal_and_in_order(memory):
    history = ExtmemChatHistory(memory, "trip", "ann")
    history.add_messages(SAID)
    history.add_user_message("Thanks")
    history.add_ai_message("Bye")
    assert history.messages == [*SAID, HumanMessage("Thanks"), AIMessage("Bye")]


def test_messages_are_awaited(memory):
    async def talk():
        history = ExtmemChatHistory(memory, "trip")
        await history.aadd_messages(SAID)
        return await history.aget_messages()

    assert asyncio.run(talk()) == SAID


def test_two_sessions_and_two_users_never_see_each_other(memory):
    mine = ExtmemChatHistory(memory, "trip", "ann")
    mine.add_user_message("I live in Paris.")
    others = [ExtmemChatHistory(memory, "work", "ann"), ExtmemChatHistory(memory, "trip", "bob")]
    for other in others:
        other.add_user_message("I live in Rome.")
    assert mine.messages == [HumanMessage("I live in Paris.")]
    for other in others:
        assert other.messages == [HumanMessage("I live in Rome.")]
        other.clear()
    assert mine.messages == [HumanMessage("I live in Paris.")]


def test_a_history_goes_on_in_another_process(tmp_path):
    code = f"""
from langchain_core.messages import HumanMessage
from extmem import Memory
from extmem.adapters.langchain import ExtmemChatHistory
with Memory({str(tmp_path / "m")!r}) as memory:
    ExtmemChatHistory(memory, "trip", "ann").add_user_message("I am back.")
"""
    with Memory(tmp_path / "m") as memory:
        history = ExtmemChatHistory(memory, "trip", "ann")
        history.add_messages(SAID)
        subprocess.run([sys.executable, "-c", code], check=True)
        assert history.messages == [*SAID, HumanMessage("I am back.")]


def test_a_conversation_of_extmem_chat_is_read_by_its_number(memory):
    chat = Chat(memory, "ann", words=True)
    chat.say("My favourite colour is blue.")
    chat.say("What is my favourite colour?")
    found = ExtmemChatHistory(memory, 1, "ann").messages
    assert [type(message) for message in found] == [HumanMessage, AIMessage, HumanMessage, AIMessage]
    assert found[0].content == "My favourite colour is blue."
    assert found[0].id == "turn/00000001"
    assert ExtmemChatHistory(memory, "1", "ann").messages == []  # a name, and another conversation


def test_extmem_chat_remembers_what_was_said_through_langchain_until_it_is_cleared(memory):
    history = ExtmemChatHistory(memory, "trip", "ann")
    history.add_messages([SystemMessage("You live in Rome."), HumanMessage("I live in Paris."), AIMessage("Noted.")])
    assert "preference/home" in memory.namespace("ann")
    assert Chat(memory, "ann", words=True).say("Where do I live?").text == "I live in Paris"
    history.clear()
    assert history.messages == []
    assert list(memory.namespace("ann").keys()) == ["turn/00000004"]  # the question; the reply rested on what is gone
    assert Chat(memory, "ann", words=True).say("Where do I live?").text is None


def test_a_turn_that_the_memory_forgets_is_no_message(memory):
    history = ExtmemChatHistory(memory, "trip", "ann")
    history.add_messages([HumanMessage("one"), AIMessage("two")])
    memory.namespace("ann").forget("turn/00000001")
    assert history.messages == [AIMessage("two")]


def test_messages_that_cannot_be_kept_are_refused_and_none_is(memory):
    history = ExtmemChatHistory(memory, "trip")
    with pytest.raises(InvalidInput, match="type object"):
        history.add_messages([HumanMessage("one"), ToolMessage("two", tool_call_id="c", artifact=object())])
    assert history.messages == []


@pytest.mark.parametrize(
    ("session", "user"), [("", "ann"), (None, "ann"), (True, "ann"), ("trip", ""), ("trip", "a/b")]
)
def test_a_session_and_a_user_have_names(memory, session, user):
    with pytest.raises(InvalidInput):
        ExtmemChatHistory(memory, session, user)
