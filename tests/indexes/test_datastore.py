"""A datastore finds what exact search finds, in either preset and however its segments are cut; what is forgotten
leaves no trace in it; what is damaged is never an answer."""

from __future__ import annotations

import json
import tempfile
import zlib
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from extmem import Memory
from extmem.errors import InvalidInput, MemoryFormatError
from extmem.indexes.datastore import Datastore, Entries, Limits
from extmem.indexes.quantizer import Quantizer
from extmem.indexes.segment import floats
from extmem.indexes.view import View

DIM = 16
CENTRES = np.random.default_rng(7).normal(size=(20, DIM)) * 2
SMALL = Limits(exact=30, segment=150, minimum=20)


def vectors(seed: int, count: int) -> np.ndarray:
    """Clustered, and some of them the same."""
    random = np.random.default_rng(seed)
    found = CENTRES[random.integers(0, len(CENTRES), count)] + random.normal(size=(count, DIM))
    found[: count // 4] = CENTRES[seed % 3]
    return found.astype(np.float32)


QUANTIZER = Quantizer.train(vectors(1, 2000))
QUERIES = vectors(2, 20)


def datastore(memory: Memory, limits: Limits = SMALL) -> Datastore:
    return Datastore(memory.records, "model", DIM, QUANTIZER, limits)


def memorize(memory: Memory, store: Datastore, key: str, seed: int, count: int, preset: str = "accurate") -> None:
    tokens = np.random.default_rng(seed).integers(0, 9, count)
    spans = np.stack([np.arange(count) * 3, np.arange(count) * 3 + 2], axis=1)
    with memory.transaction():
        memory.store(key, f"text {seed}")
        record = memory.record(key)
        assert record is not None
        if not store.holds(record.id):
            if not len(store):
                store.choose(preset)
            store.append([Entries(record.id, vectors(seed, count), tokens, spans)])


def answers(memory: Memory, view: View, k: int = 12) -> list[tuple]:
    """Everything that a search of these queries tells: distances, tokens, which key and where."""
    entries, distances = view.search(QUERIES, k)
    told = []
    for entry, distance in zip(entries.ravel().tolist(), distances.ravel().tolist(), strict=True):
        if entry < 0:
            told.append((distance, None))
            continue
        record_id, span = view.cite(entry)
        record = memory.records.by_id(record_id)
        assert record is not None
        told.append((distance, int(view.tokens(np.array([entry]))[0]), record.key, span))
    return told


KEYS = ["a", "b", "c", "d", "e"]
stores = st.tuples(st.just("store"), st.sampled_from(KEYS), st.integers(0, 40))
forgets = st.tuples(st.just("forget"), st.sampled_from(KEYS))


@pytest.mark.parametrize("preset", ["accurate", "compact"])
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(stores | forgets, min_size=1, max_size=12), victim=st.sampled_from(KEYS))
def test_forgotten_is_never_stored_and_an_index_is_what_a_rebuilt_one_is(preset, steps, victim):
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "m") as memory, Memory() as never:
        stores_of = {"with": datastore(memory), "without": datastore(never)}
        for kind, key, *how in steps:
            for one, store in ((memory, stores_of["with"]), (never, stores_of["without"])):
                if key == victim and one is never:
                    continue
                if kind == "store":
                    memorize(one, store, key, *how, 1 + 37 * how[0] % 120, preset)
                else:
                    one.forget(key)
        memory.forget(victim)
        told = answers(memory, stores_of["with"].view())
        assert told == answers(never, stores_of["without"].view())
        assert told == answers(memory, datastore(memory).view()), "opened anew"
        whole = Limits(exact=30, segment=10**6, minimum=10**6)
        with Memory() as rebuilt:
            again = datastore(rebuilt, whole)
            there = stores_of["with"].view()
            for record_id in dict.fromkeys(there.records(np.arange(len(there))).tolist()):
                record = memory.records.by_id(record_id)
                seed = int(record.value.removeprefix("text "))
                memorize(rebuilt, again, record.key, seed, 1 + 37 * seed % 120, preset)
            assert told == answers(rebuilt, again.view()), "in one segment"
        assert memory.verify() == []


def test_what_is_found_by_cells_is_what_exact_search_finds():
    with Memory() as memory:
        store = datastore(memory)
        for number in range(30):
            memorize(memory, store, f"k{number}", number, 100)
        view = store.view()
        assert not view.exact and len(view.segments) > 1
        exact = Datastore(memory.records, "model", DIM, QUANTIZER).view()
        assert exact.exact
        found, true = view.search(QUERIES, 10), exact.search(QUERIES, 10)
        same = [len(np.intersect1d(one, other)) for one, other in zip(found[0], true[0], strict=True)]
        assert sum(same) >= 0.97 * 10 * len(QUERIES)
        np.testing.assert_allclose(found[1], true[1], rtol=0.2)
        assert view.measured_recall > 0.97
        about = store.stats()
        assert about["search"] == f"{QUANTIZER.probes_among(3000)} of {len(QUANTIZER.cells)} cells, for recall 0.99"
        assert about["recall"] == view.measured_recall
        assert Datastore(memory.records, "model", DIM, QUANTIZER).stats()["recall"] is None


def test_many_entries_with_one_key_come_in_the_order_in_which_they_were_added():
    with Memory() as memory:
        store = datastore(memory)
        same = np.repeat(vectors(3, 1), 400, axis=0)
        for number in range(2):
            memory.store(f"k{number}", "text")
            entries = Entries(memory.record(f"k{number}").id, same, np.arange(400), np.zeros((400, 2), np.int64))
            store.append([entries])
        assert store.search(same[:1], 50)[0][0].tolist() == list(range(50))


@pytest.mark.parametrize("preset", ["accurate", "compact"])
def test_a_view_stays_as_it_was_while_others_store_and_forget(preset, tmp_path):
    with Memory(tmp_path / "m") as memory, Memory(tmp_path / "m") as other:
        store = datastore(memory)
        for number, key in enumerate(KEYS):
            memorize(memory, store, key, number, 100, preset)
        view = store.view()
        found = view.search(QUERIES, 5)[0]
        cited = [view.cite(entry) for entry in found[:, 0].tolist()]
        other.forget("a")
        memorize(other, datastore(other), "new", 50, 100, preset)
        assert (view.search(QUERIES, 5)[0] == found).all()
        assert [view.cite(entry) for entry in found[:, 0].tolist()] == cited
        assert len(store.view()) == len(view) and store.view() is not view
        gone = memory.records.by_id(cited[0][0])
        assert all(memory.records.by_id(store.view().cite(e)[0]) is not None for e in range(len(store)))
        assert gone is None or gone.key != "a"


def test_the_entry_behind_one_is_the_next_of_its_record():
    with Memory() as memory:
        store = datastore(memory)
        memorize(memory, store, "a", 1, 3)
        memorize(memory, store, "b", 2, 2)
        assert store.view().following(np.arange(5)).tolist() == [1, 2, 4]
        assert store.view().distances(vectors(1, 3)[0], np.array([0])) < 1e-3


def test_the_presets_keep_entries_in_the_bytes_that_they_promise():
    wide = np.random.default_rng(0).normal(size=(6000, 128)).astype(np.float32)
    quantizer = Quantizer.train(wide[:1000])
    for preset, most in (("compact", 48), ("accurate", 320)):
        with Memory() as memory:
            store = Datastore(memory.records, "model", 128, quantizer)
            memory.store("k", "text")
            store.choose(preset)
            spans = np.stack([np.arange(6000) * 5, np.arange(6000) * 5 + 4], axis=1)
            store.append([Entries(1, wide, np.arange(6000) % 10_000, spans)])
            assert store.stats()["bytes"] / 6000 < most


def test_codes_tell_near_ones_apart_where_vectors_differ_most_along_a_few_axes():
    """A scan has 8 bits for a distance: spent on the centres that are farthest along the first axes, they would leave a
    few values for all that is near."""
    random = np.random.default_rng(3)
    steep = (random.normal(size=(12_000, 32)) * 8.0 ** -np.linspace(0, 4, 32)).astype(np.float32)
    quantizer, spans = Quantizer.train(steep[:4000]), np.stack([np.arange(11_800), np.arange(11_800) + 1], axis=1)
    with Memory() as memory:
        store = Datastore(memory.records, "model", 32, quantizer, Limits(exact=100, segment=5000, minimum=20))
        memory.store("k", "text")
        store.choose("compact")
        store.append([Entries(1, steep[200:], np.zeros(11_800, int), spans)])
        entries, distances = store.view().search(steep[:200], 32)
    apart = np.square(steep[:200, None] - steep[None, 200:]).sum(axis=2)
    nearest = np.argsort(apart, axis=1)[:, :32]
    assert np.mean([len(np.unique(row)) for row in distances]) > 20
    assert np.mean([len(np.intersect1d(*pair)) / 32 for pair in zip(nearest, entries, strict=True)]) > 0.75


@pytest.mark.parametrize("preset", ["accurate", "compact"])
def test_many_queries_find_what_each_of_them_finds_alone(preset):
    """They are cut into parts for threads, and a single one is scanned in another way."""
    with Memory() as memory:
        store = datastore(memory)
        for number, key in enumerate(KEYS):
            memorize(memory, store, key, number, 400, preset)
        queries = vectors(3, 150)
        many = store.view().search(queries, 10)
        alone = [
            np.concatenate(part) for part in zip(*(store.view().search(one[None], 10) for one in queries), strict=True)
        ]
    assert (many[0] == alone[0]).mean() > 0.999
    assert np.allclose(many[1], alone[1], rtol=1e-4, atol=1e-4)


def test_a_preset_is_chosen_once():
    with Memory() as memory:
        store = datastore(memory)
        memorize(memory, store, "a", 1, 10, "compact")
        assert store.preset == "compact"
        store.choose("compact")
        with pytest.raises(InvalidInput, match="is compact, not accurate"):
            store.choose("accurate")
        with pytest.raises(InvalidInput, match="there is no preset 'tiny'"):
            store.choose("tiny")
        without = Datastore(memory.records, "model", DIM)
        with pytest.raises(InvalidInput, match="only its model can add"):
            without.append([Entries(1, vectors(1, 1), np.zeros(1, int), np.zeros((1, 2), int))])
        with pytest.raises(InvalidInput, match="only its model can read its keys"):
            without.search(QUERIES, 1)


@pytest.mark.parametrize("preset", ["accurate", "compact"])
def test_a_handle_without_the_model_forgets_as_exactly(preset, tmp_path):
    with Memory(tmp_path / "m") as memory:
        store = datastore(memory)
        for number, key in enumerate(KEYS):
            memorize(memory, store, key, number, 100, preset)
        with Memory(tmp_path / "m") as plain:
            plain.forget("b")
        with Memory() as never:
            for number, key in enumerate(KEYS):
                if key != "b":
                    memorize(never, datastore(never), key, number, 100, preset)
            assert answers(memory, store.view()) == answers(never, datastore(never).view())


def test_what_cannot_be_taken_is_refused():
    with Memory() as memory:
        store = datastore(memory)
        memorize(memory, store, "a", 1, 10)
        token, span = np.zeros(1, int), np.zeros((1, 2), int)
        for keys, match in (
            (np.zeros((1, 5)), r"keys \(1, 5\)"),
            (np.full((1, DIM), np.nan), "NaN"),
            (np.full((1, DIM), 1e9), "beyond 65,504"),
        ):
            with pytest.raises(InvalidInput, match=match):
                store.append([Entries(1, keys, token, span)])
        for queries, match in ((np.zeros((1, 5), np.float32), "shape"), (np.full((1, DIM), np.inf, np.float32), "NaN")):
            with pytest.raises(InvalidInput, match=match):
                store.search(queries, 3)
        assert len(store) == 10


def test_every_cut_and_every_flipped_byte_of_a_segment_is_told_and_never_answered(tmp_path):
    with Memory(tmp_path / "m") as memory:
        memorize(memory, datastore(memory), "a", 1, 120)
        expected = answers(memory, datastore(memory).view())
        (path,) = (tmp_path / "m").rglob("*.safetensors")
        whole = path.read_bytes()
        for at in [0, 7, 8, 300, *range(11, len(whole), 997), len(whole) - 1]:
            for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :]):
                path.write_bytes(content)
                with pytest.raises(MemoryFormatError, match="extmem verify --repair"):
                    answers(memory, datastore(memory).view())
                assert memory.verify() != []
        path.write_bytes(whole)
        assert answers(memory, datastore(memory).view()) == expected and memory.verify() == []


def test_a_segment_of_the_first_format_is_read_forgotten_and_written_anew(tmp_path):
    with Memory(tmp_path / "m") as memory, Memory() as fresh:
        for number, key in enumerate("ab"):
            memorize(fresh, datastore(fresh), key, number, 60)
            memory.store(key, f"text {number}")
        old = {
            "keys": np.concatenate([vectors(0, 60), vectors(1, 60)]).astype(np.float16),
            "tokens": np.concatenate([np.random.default_rng(n).integers(0, 9, 60) for n in (0, 1)]).astype(np.int32),
            "records": np.repeat([memory.record("a").id, memory.record("b").id], 60),
            "spans": np.tile(np.stack([np.arange(60) * 3, np.arange(60) * 3 + 2], axis=1).astype(np.int32), (2, 1)),
        }
        content = save(old, {"format": "1", "fingerprint": "model"})
        with memory.transaction():
            memory.records.ledger_put("datastore", "model", {"dim": DIM, "format": 1})
            memory.records.write_file("datastores/model/old.safetensors", content)
            note = {"entries": 120, "crc32": zlib.crc32(content)}
            memory.records.ledger_put("segments:model", "old.safetensors", note)
        store = datastore(memory)
        assert answers(memory, store.view()) == answers(fresh, datastore(fresh).view())
        assert memory.verify() == [] and store.preset == "accurate"
        memory.forget("a")
        fresh.forget("a")
        assert answers(memory, store.view()) == answers(fresh, datastore(fresh).view())
        (note,) = memory.records.ledger("segments:model").values()
        assert "bytes" in note
        memory.repair()
        assert json.dumps(store.stats())


def test_halves_become_the_same_floats():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 2)
    assert (floats(halves) == halves.astype(np.float32)).all()


def test_a_quantiser_of_any_width_decodes_what_it_encodes():
    for dim in (1, 3, 4, 7, 128, 640, 1024):
        given_vectors = np.random.default_rng(dim).normal(size=(300, dim)).astype(np.float32)
        quantizer = Quantizer.train(given_vectors)
        cells, codes = quantizer.encode(given_vectors)
        assert codes.shape == (300, quantizer.code_size)
        assert codes.shape[1] <= 128 and cells.max() < len(quantizer.cells)
        apart = np.square(quantizer.decode(codes) - given_vectors).sum(1).mean()
        assert apart < 0.7 * np.square(given_vectors).sum(1).mean()


def test_old_models_have_their_codes_made_of_their_cells_and_always_the_same():
    cells = vectors(5, 40)
    assert Quantizer.of_cells(cells).name == Quantizer.of_cells(cells).name
    assert Quantizer.of_cells(cells).dim == DIM


def test_codes_of_which_nothing_was_learned_find_most_of_what_is_nearest_in_a_narrow_cone():
    draw = np.random.default_rng(3)
    cone = draw.normal(size=384) + 0.7 * draw.normal(size=(4_000, 384)) * np.linspace(2, 0.1, 384)
    units = (cone / np.linalg.norm(cone, axis=1, keepdims=True)).astype(np.float32)
    quantizer = Quantizer.of_units(384)
    cells, codes = quantizer.encode(units)
    assert len(quantizer.cells) == 1 and not cells.any() and codes.shape == (4_000, 96)
    true = faiss.knn(units[:100], units[100:], 32)[1]
    near = faiss.knn(units[:100], quantizer.decode(codes[100:]), 160)[1]
    assert np.mean([np.isin(one, some).mean() for one, some in zip(true, near, strict=True)]) > 0.9


@pytest.mark.parametrize("dim", [1, 2, 3, 64, 384, 1536])
def test_units_of_any_width_are_found_by_codes_of_which_nothing_was_learned(dim):
    units = np.random.default_rng(dim).normal(size=(400, dim)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    spans = np.stack([np.arange(400), np.arange(400) + 1], axis=1)
    with Memory() as memory:
        limits = Limits(exact=100, segment=150, minimum=20)
        store = Datastore(memory.records, "embeddings-units", dim, limits=limits)
        memory.store("k", "text")
        store.append(
            [Entries(1, units[at : at + 50], np.zeros(50, int), spans[at : at + 50]) for at in range(0, 400, 50)]
        )
        assert store.stats()["search"] == "all codes"
        entries, distances = store.search(units[:50], 8)
        alone = np.concatenate([store.search(one[None], 8)[0] for one in units[:50]])
    true = np.sort(np.square(units[:50, None] - units[None]).sum(axis=2), axis=1)[:, :8]
    assert (alone == entries).all()
    assert distances[:, 0] == pytest.approx(0, abs=1e-3)
    assert np.mean(distances <= true[:, -1:] + 1e-3) > 0.99


def test_clouds_that_a_thousand_cells_of_a_few_axes_do_not_hold_get_more_of_both():
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(4_096, 64)).astype(np.float32)
    clouds = centres[draw.integers(0, 4_096, 66_000)] + 0.3 * draw.normal(size=(66_000, 64)).astype(np.float32)
    quantizer = Quantizer.train(clouds[:65_536])
    assert quantizer.cells.shape[0] == 2_048 and quantizer.cells.shape[1] > 24
    near = faiss.knn(clouds[65_536:66_000], clouds[:65_536], 10)[1]
    home = quantizer.encode(clouds[:65_536])[0][near]
    looked = quantizer.probed(clouds[65_536:66_000], quantizer.probes)[1]
    assert (home[:, :, None] == looked[:, None, :]).any(axis=2).mean() > 0.97
