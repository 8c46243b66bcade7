"""A text on a theme is made of the records found for it, and says of which; of what is not there it says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chat_server import StreamingServer, streaming_server
from extmem import LanguageModel, Memory
from extmem.errors import InvalidInput, ModelError
from extmem.tasks.write import LONGEST, TOLD, write, writes

SHIP = "The ship Zephyrine reached Port Quill with nineteen crates of violet tea on Tuesday."
FAIR = "The village fair at Umberleigh sold forty jars of plum jam in the rain."


@pytest.fixture
def memory() -> Memory:
    memory = Memory()
    memory.store_many([("ship", SHIP), ("fair", FAIR)])
    return memory


@pytest.fixture
def server() -> Iterator[StreamingServer]:
    with streaming_server() as running:
        yield running


def test_names_of_the_record_found_are_written_and_cited(model: LanguageModel, memory: Memory) -> None:
    alone = model.generate("The ship", allow_unknown=True, max_tokens=30)
    found = write(memory, "The ship", model, documents=1, max_tokens=30)
    assert found.found == ("ship",)
    assert found.text is not None
    assert found.generation is not None
    assert "Zephyrine" in found.text
    assert "Zephyrine" not in alone.text
    assert {one.key for one in found.citations} == {"ship"}
    weights = [one.weight for one in found.citations]
    assert weights == sorted(weights, reverse=True)
    assert 0.3 < sum(weights) <= 1
    stretches = [SHIP[one.start : one.end] for one in found.citations]
    assert any("Zephyrine" in stretch for stretch in stretches)
    assert all(stretch in SHIP and stretch.strip() for stretch in stretches)


def test_words_one_after_the_other_from_one_place_are_one_stretch(model: LanguageModel, memory: Memory) -> None:
    found = write(memory, "The ship", model, documents=1, max_tokens=30)
    assert max(one.end - one.start for one in found.citations) > len("The ship Zephyrine")
    assert found.generation is not None
    assert len(found.citations) < len(found.generation.tokens)


def test_of_what_is_not_there_nothing_is_written(model: LanguageModel, memory: Memory) -> None:
    found = write(memory, "volcanoes", model)
    assert (found.text, found.citations, found.found, str(found)) == (None, (), (), "not in memory")
    assert write(memory.namespace("bob"), "The ship", model).text is None
    assert write(memory, "The ship", model, where={"key": "fair"}).found != ("ship",)


def test_a_text_is_as_if_what_was_forgotten_had_never_been(model: LanguageModel, memory: Memory) -> None:
    memory.store("ship/2", "The ship Zephyrine sank off Port Quill.")
    with_it = write(memory, "The ship Zephyrine", model, max_tokens=20)
    memory.forget("ship/2")
    fresh = Memory()
    fresh.store_many([("ship", SHIP), ("fair", FAIR)])
    assert write(memory, "The ship Zephyrine", model, max_tokens=20) == write(
        fresh, "The ship Zephyrine", model, max_tokens=20
    )
    assert "ship/2" in with_it.found
    assert sorted(memory.keys()) == ["fair", "ship"]
    assert not list(memory.datastores())


def test_a_long_record_guides_by_its_beginning_and_places_are_the_records(model: LanguageModel) -> None:
    memory = Memory()
    memory.store("long", f"{SHIP} {'and then nothing came of it ' * 200}")
    found = write(memory, "The ship", model, max_tokens=20)
    assert found.found == ("long",)
    assert all(one.end <= LONGEST for one in found.citations)


def test_places_are_whole_records_where_the_text_is_spelled_otherwise(model: LanguageModel) -> None:
    memory = Memory()
    text = SHIP.replace("Quill", "Qui\u0301ll")
    memory.store("ship", text)
    found = write(memory, "The ship", model, max_tokens=20)
    assert {(one.start, one.end) for one in found.citations} == {(0, len(text))}


def test_a_writer_is_given_the_records_as_numbered_sources(memory: Memory, server: StreamingServer) -> None:
    heard: list[str] = []
    found = write(memory, "The ship", writes(server.spec("good")), documents=1, heard=heard.append)
    assert (found.text, "".join(heard)) == ("You love hiking [1].",) * 2
    assert [(one.key, one.start, one.end, one.weight) for one in found.citations] == [("ship", 0, len(SHIP), 1.0)]
    assert TOLD in server.told()
    assert f'[1] "{SHIP}"' in server.told()
    assert FAIR not in server.told()


def test_a_writer_that_breaks_off_is_an_error_and_nothing_is_lost(memory: Memory, server: StreamingServer) -> None:
    with pytest.raises(ModelError, match="broke off"):
        write(memory, "The ship", writes(server.spec("breaks")), heard=lambda piece: None)
    assert memory.retrieve("ship") == SHIP


def test_bad_input_is_refused(memory: Memory, server: StreamingServer, model: LanguageModel) -> None:
    with pytest.raises(InvalidInput, match="no theme"):
        write(memory, "  ", model)
    with pytest.raises(InvalidInput, match="takes no 'temperature'"):
        write(memory, "The ship", writes(server.spec("good")), temperature=1.0)
    with pytest.raises(InvalidInput, match="no option 'heat'"):
        write(memory, "The ship", model, heat=1.0)
    with pytest.raises(InvalidInput):
        writes("")
