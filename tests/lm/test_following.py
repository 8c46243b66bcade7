"""Following: what is followed is what comes next in the stored text; it saves searches and never outlives a change."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from extmem import LanguageModel, Memory
from extmem.errors import InvalidInput
from extmem.lm.following import follow, read_along

SMALL = {"units": 16, "embedding": 16, "batch": 4, "slots": 2, "capacity": 20, "sequence_length": 50, "epochs": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("following")
    (folder / "text.txt").write_text(topics["while"] + "\n\n" + topics["try"], encoding="utf-8")
    (folder / "held.txt").write_text(topics["with"][:4000], encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small(place: Path) -> LanguageModel:
    return LanguageModel.train(place / "text.txt", learning_rate=0.02, warmup=1, **SMALL)


def test_entries_whose_token_came_are_followed_the_nearest_first(small):
    with Memory() as memory:
        small.memorize(memory, {"a": "the list of the names of the list"})
        view = small.datastore(memory).view()
        tokens = view.tokens()
        the = int(tokens[0])
        query = view.keys(np.array([4]))[0]
        entries, distances = follow(view, np.arange(-1, len(view)), the, query, 1)
        assert sorted(entries.tolist()) == (np.flatnonzero(tokens == the) + 1).tolist()
        assert entries[0] == 4 and distances[0] == 0 and (np.diff(distances) >= 0).all()
        assert follow(view, np.arange(len(view)), the, query, 4) is None
        assert follow(view, np.array([len(view) - 1]), int(tokens[-1]), query, 1) is None, "nothing stands behind it"


def test_a_stored_text_is_read_along_with_one_search(small):
    with Memory() as memory:
        small.memorize(memory, {"with": topics["with"][:1500]})
        view = small.datastore(memory).view()
        keys, tokens = view.keys(np.arange(len(view))), view.tokens()
        entries, distances, searched = read_along(view, keys, tokens, 8, 1)
        assert searched == 1
        assert (entries[:, 0] == np.arange(len(view))).all() and (distances[:, 0] == 0).all()
        always, _, every = read_along(view, keys, tokens, 8, 9)
        assert every == len(view) and (always == view.search(keys, 8)[0]).all()


def test_evaluation_tells_how_often_it_searched(small, place):
    with Memory() as memory:
        assert small.evaluate(place / "held.txt", memory).searched is None
        small.memorize(memory, {"with": topics["with"]})
        always, along = (small.evaluate(place / "held.txt", memory, follow=least) for least in (0, 1))
        assert always.searched == always.tokens > along.searched > 0
        assert along.to_json()["searched"] == along.searched
        assert along.perplexity["model"] == always.perplexity["model"]
        assert along.perplexity["datastore"] < along.perplexity["model"]


@pytest.mark.parametrize("change", ["forget", "store"])
def test_the_next_token_sees_what_was_stored_or_forgotten_while_following(small, change):
    told = "The quokka sleeps while the wombat digs. "
    with Memory() as memory, Memory() as fresh:
        for one in (memory, fresh):
            small.memorize(one, {"told": told * 3, "other": topics["with"][:800]})
        tokens = small.stream("The quokka sleeps", memory, follow=1, allow_unknown=True, max_tokens=8)
        next(tokens)
        if change == "forget":
            memory.forget("told")
        else:
            small.memorize(memory, {"new": topics["del"][:500]})
        said = [(token.text, token.probability, token.citations) for token in tokens]
        again = list(small.stream("The quokka sleeps", fresh, follow=1, allow_unknown=True, max_tokens=8))[1:]
        assert "told" in {citation.key for token in again for citation in token.citations}, "without a change"
        assert change == "store" or "told" not in {citation.key for _, _, cited in said for citation in cited}
        assert said != [(token.text, token.probability, token.citations) for token in again]


def test_a_number_that_cannot_be_followed_is_refused(small):
    with pytest.raises(InvalidInput, match="follow"):
        small.generate("the", follow=-1)
