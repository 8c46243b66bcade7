"""A translator uses what is stored: pairs, terms, neighbours; cites them; and forgets them wholly."""

from __future__ import annotations

import math
from itertools import product

import pytest

from extmem import LanguageModel, Memory
from extmem.errors import CorpusError, InvalidInput, WrongModel
from extmem.lm.translate import Decoding
from extmem.tasks.translate import Translator
from small_language import pairs, translated

SEEN = "The old dog sees the cat."


@pytest.fixture
def translator(translating) -> Translator:
    """With a third of the pairs in its memory."""
    with Memory() as memory:
        found = Translator(translating, memory)
        found.remember(pairs()[::3])
        yield found


def exact(translator: Translator, sentence: str) -> tuple:
    found = translator.translate(sentence)
    return str(found), [token for line in found.lines for token in line.tokens]


def test_a_stored_pair_comes_back_as_it_was_stored_and_cites_itself(translator):
    odd = ("The dog finds a cat.", "Kanu: gatu, trovar!  (sic)")
    translator.remember([odd])
    found = translator.translate(odd[0])
    assert str(found) == odd[1]
    assert {one.key for one in found.citations} == {odd[0]}
    spelled = [odd[1][one.start : one.end] for token in found.lines[0].tokens for one in token.citations]
    assert spelled == [token.text for token in found.lines[0].tokens]


def test_more_is_right_with_a_memory_that_does_not_hold_it_than_without(translating):
    held = pairs()[1::3]
    with Memory() as memory:
        translator = Translator(translating, memory)
        translator.remember([pair for pair in pairs() if pair not in held])
        right, alone = (
            sum(str(one.translate(source)) == target for source, target in held)
            for one in (translator, Translator(translating))
        )
    assert right > alone
    assert right > 0.6 * len(held)


def test_every_token_says_which_pairs_it_is_from(translator):
    (line,) = translator.translate("A quick child helps the farmer.").lines
    cited = [one for token in line.tokens for one in token.citations]
    assert cited
    for token in line.tokens:
        assert 0 <= token.memory_share <= 1 + 1e-6
        assert sum(one.weight for one in token.citations) <= token.memory_share + 1e-6
        assert math.isclose(sum(share for _, share in token.shares), 1, abs_tol=1e-5)
        for one in token.citations:
            assert translator.memory.retrieve(one.key)[one.start : one.end] == token.text
    assert "".join(line.pieces) == line.text


def test_a_term_is_always_used_mostly_in_place_of_the_models_word_and_cites_itself(translator):
    translator.define("dog", "hundu")
    asked = [source for source, _ in pairs()[1::3] if "dog" in source]
    found = [translator.translate(source) for source in asked]
    for one in found:
        assert str(one).lower().count("hundu") == 1
        assert one.terms == ("dog",)
        assert [place.weight for place in one.citations if place.key == "dog"] == [1.0]
    assert sum("kanu" not in str(one).lower() for one in found) > 0.7 * len(asked)
    assert translator.terms() == {"dog": "hundu"}


def test_the_longest_of_terms_that_overlap_counts_and_case_does_not(translator):
    for term, wanted in (("red", "skarlatu"), ("red dog", "vulpu"), ("the red", "la ruda")):
        translator.define(term, wanted)
    assert [term.key for term in translator.found_terms("A red dog sees the red cat.")] == ["red dog", "the red"]
    assert [term.key for term in translator.found_terms("Red dogs; A RED child.")] == ["red", "red"]


def test_a_forgotten_pair_or_term_leaves_every_translation_as_if_it_had_never_been_stored(translating):
    others, asked = [pair for pair in pairs()[::3] if pair.source != SEEN], [SEEN, "A small cat sees the dog."]
    with Memory() as never, Memory() as forgot:
        plain, changed = Translator(translating, never), Translator(translating, forgot)
        plain.remember(others)
        changed.remember(others[:20])
        changed.remember([(SEEN, "Zut.")])
        changed.define("cat", "felinu")
        changed.remember(others[20:])
        assert exact(changed, SEEN)[0] == "Zut."
        forgot.forget_many([SEEN, "cat"])
        assert [exact(changed, one) for one in asked] == [exact(plain, one) for one in asked]


def test_lines_are_translated_one_by_one(translator):
    found = translator.translate(f"{SEEN}\n\nA small cat sees the dog.")
    assert str(found).split("\n")[1] == ""
    assert str(found).split("\n")[0] == translated(SEEN)
    assert [line.prompt for line in found.lines] == [SEEN, "", "A small cat sees the dog."]


def test_a_text_in_another_language_is_refused_unless_allowed(translator):
    foreign = "Der Hund schläft heute lange."
    with pytest.raises(InvalidInput, match=r"5 of the 5 words"):
        translator.translate(foreign)
    assert translator.translate(foreign, allow_unknown=True).lines
    translator.remember([(foreign, "Kanu dormir.")])
    assert str(translator.translate(foreign)) == "Kanu dormir."
    with pytest.raises(InvalidInput, match="has seen"):
        translator.translate("Lo kanu vek vidar lo gatu.")  # it writes this language, and does not read it


@pytest.mark.parametrize("text", ["", "  \n ", "\u200b"])
def test_nothing_is_refused(translator, text):
    with pytest.raises(InvalidInput, match="nothing to translate"):
        translator.translate(text)


def test_what_is_no_pair_or_no_term_is_refused_and_nothing_is_stored(translating):
    with Memory() as memory:
        translator = Translator(translating, memory)
        with pytest.raises(CorpusError, match="line 2 is empty"):
            translator.remember([(SEEN, "Lo."), ("A dog.", " ")])
        with pytest.raises(InvalidInput, match="a phrase and its translation"):
            translator.define("dog", " ")
        with pytest.raises(InvalidInput, match="longer than 6 words"):
            translator.define("one two three four five six seven", "x")
        assert len(memory) == 0


def test_a_model_that_reads_no_source_and_a_memory_of_another_model_are_refused(translating, model):
    with pytest.raises(InvalidInput, match="no translator"):
        Translator(model)
    with Memory() as memory:
        model.memorize(memory, {"a": "some text"})
        with pytest.raises(WrongModel):
            Translator(translating, memory).translate(SEEN)
    with pytest.raises(InvalidInput, match="at least 1"):
        Decoding(beams=0)


def test_fitting_holds_out_what_training_did_and_remembers_it_then(translating):
    few, others = pairs()[:24], pairs()[24:49]
    many = {f"{one} {two}": f"{own} {other}" for (one, own), (two, other) in product(few, others)}
    with Memory() as memory:
        translator = Translator(translating, memory)
        with pytest.raises(InvalidInput, match="give at least 400"):
            translator.remember(few, fit=True)
        added = translator.remember(many.items(), fit=True)
        assert added.documents == len(many)
        assert "datastore" in translating.mixture_for(memory).gates
        last = list(many)[-1]
        assert str(translator.translate(last)) == many[last]


def test_a_translator_is_loaded_as_it_was_saved(translating, tmp_path):
    translating.save(tmp_path / "copy")
    copy = LanguageModel.load(tmp_path / "copy")
    assert copy.fingerprint == translating.fingerprint
    asked = "A quick farmer finds the dog."
    assert exact(Translator(copy), asked) == exact(Translator(translating), asked)
