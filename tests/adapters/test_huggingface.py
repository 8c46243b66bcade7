"""A memory attached to models of Hugging Face's: their own generate, Trainer, compiling and adapters read it."""

from __future__ import annotations

from copy import deepcopy

import hosts
import numpy as np
import pytest
import torch
from hosts import PAIRS, TEXT
from transformers import Trainer, TrainingArguments

import extmem
from extmem import Memory
from extmem.adapters.huggingface import attach, citations, detach, fit, memorize
from extmem.errors import InvalidInput, ModelError, WrongModel

ASKED = ["The with statement", "A context manager is an object"]


def asked(side: str = "left") -> dict[str, torch.Tensor]:
    return dict(hosts.tokenizer()(ASKED, return_tensors="pt", padding=True, padding_side=side))


def whole() -> torch.Tensor:
    return hosts.tokenizer()(TEXT[:600], return_tensors="pt")["input_ids"]


@pytest.fixture(params=hosts.CAUSAL)
def model(request):
    return hosts.model(request.param)


@pytest.fixture
def llama():
    return hosts.model("llama")


@pytest.fixture
def memory():
    with Memory() as memory:
        yield memory


def by_hand(model, memory, ids, lam, temperature):
    """log p of kNN-LM's equations 2 and 3, an entry at a time, (T, V)."""
    (datastore,) = memory.datastores()
    keys, tokens = torch.tensor(datastore.view().keys(np.arange(len(datastore)))), torch.tensor(datastore.tokens)
    head = model.get_output_embeddings()
    caught = []
    handle = head.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    p = torch.softmax(model(ids).logits[0].double(), dim=1)
    handle.remove()
    for place, state in enumerate(caught[0][0]):
        weights = torch.softmax(-(state - keys).square().sum(1).double() / temperature, dim=0)
        near = torch.zeros(p.shape[1], dtype=torch.double).index_add(0, tokens, weights)
        p[place] = (1 - lam) * p[place] + lam * near
    return p.log()


@torch.no_grad()
def test_the_logits_are_the_logarithms_of_knn_lms_mixture(model, memory):
    memorize(model, hosts.tokenizer(), memory, {"with": TEXT[:700]})
    ids = whole()[:, :40]
    expected = by_hand(model, memory, ids, 0.4, 0.5)
    attach(model, memory, lam=0.4, temperature=0.5, neighbours=10_000)
    torch.testing.assert_close(model(ids).logits[0].double(), expected, atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_the_loss_is_that_of_the_mixture_by_name_and_by_place(model, memory):
    memorize(model, hosts.tokenizer(), memory, {"with": TEXT})
    ids, alone = whole(), model(whole(), labels=whole()).loss
    labels = ids.clone()
    labels[:, :20] = -100
    attach(model, memory)
    found = model(input_ids=ids, labels=labels)
    log_p = torch.log_softmax(found.logits[0, 19:-1], dim=1)
    assert float(found.loss) == pytest.approx(-float(log_p.gather(1, ids[0, 20:, None]).mean()), rel=1e-5)
    assert found.loss < alone
    loss, logits = model(input_ids=ids, labels=labels, return_dict=False)[:2]
    assert torch.equal(loss, found.loss) and torch.equal(logits, found.logits)


def test_detached_the_model_is_as_it_was_and_its_class_never_changed(model, memory):
    kind, forward = type(model), type(model).forward
    names = set(vars(model))
    memorize(model, hosts.tokenizer(), memory, {"with": TEXT})
    before = model.generate(**asked(), max_new_tokens=6, do_sample=False)
    attach(model, memory)
    attach(model, memory, lam=0.9)  # anew: the first is taken off
    assert type(model) is kind and type(model).forward is forward
    assert not torch.equal(model.generate(**asked(), max_new_tokens=6, do_sample=False), before)
    detach(model)
    assert torch.equal(model.generate(**asked(), max_new_tokens=6, do_sample=False), before)
    assert set(vars(model)) == names
    assert not model._forward_hooks and not model.get_output_embeddings()._forward_pre_hooks


@pytest.mark.parametrize(
    "decoding",
    [
        {},
        {"do_sample": True, "top_p": 0.9},
        {"num_beams": 3, "num_return_sequences": 2},
        {"cache_implementation": "static"},
        {"use_cache": False},
    ],
    ids=lambda one: "+".join(one) or "greedy",
)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # places that are turned, and places that are learned
def test_every_decoding_reads_the_memory_and_each_token_says_what_it_came_from(kind, memory, decoding):
    model = hosts.model(kind)
    attach(model, memory, lam=0.8)  # before anything is memorized
    memorize(model, hosts.tokenizer(), memory, {"with": TEXT})
    torch.manual_seed(1)
    done = model.generate(
        **asked(), max_new_tokens=6, **{"do_sample": False} | decoding,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    rows = citations(model)
    assert len(rows) == len(done.sequences) == (4 if "num_beams" in decoding else 2)
    for number, row in enumerate(rows):
        new = done.sequences[number, asked()["input_ids"].shape[1] :].tolist()
        new = new[: new.index(2)] if 2 in new else new
        assert [token.text for token in row] == [hosts.tokenizer().decode([one]) for one in new]
        for step, token in enumerate(row):
            if "num_beams" not in decoding:  # whose rows change their places
                said = done.logits[step][number].exp()[new[step]]
                assert token.probability == pytest.approx(float(said), rel=1e-3)
            for place in token.citations:
                assert place.key == "with" and TEXT[place.start : place.end] == token.text
            assert sum(place.weight for place in token.citations) <= token.memory_share + 1e-6
            assert 0 <= token.memory_share <= 1
    assert any(token.citations for row in rows for token in row)


def test_padding_changes_no_text(model, memory):
    memorize(model, hosts.tokenizer(), memory, {"with": TEXT})
    attach(model, memory, lam=0.8)
    together = model.generate(**asked(), max_new_tokens=6, do_sample=False)
    width = asked()["input_ids"].shape[1]
    for number, text in enumerate(ASKED):
        alone = dict(hosts.tokenizer()(text, return_tensors="pt"))
        new = model.generate(**alone, max_new_tokens=6, do_sample=False)[0, alone["input_ids"].shape[1] :]
        assert together[number, width:].tolist() == new.tolist()


def test_an_assistant_changes_no_text(llama, memory):
    memorize(llama, hosts.tokenizer(), memory, {"with": TEXT})
    attach(llama, memory, lam=0.8)
    one = dict(hosts.tokenizer()(ASKED[1], return_tensors="pt"))
    alone = llama.generate(**one, max_new_tokens=12, do_sample=False)
    helped = llama.generate(**one, max_new_tokens=12, do_sample=False, assistant_model=hosts.model("llama"))
    assert helped.tolist() == alone.tolist()


def test_a_compiled_model_says_the_same(llama, memory):
    memorize(llama, hosts.tokenizer(), memory, {"with": TEXT})
    compiled = torch.compile(llama, backend="aot_eager")
    attach(compiled, memory, lam=0.8)
    with torch.no_grad():
        torch.testing.assert_close(compiled(whole()).logits, llama(whole()).logits)
    detach(compiled)
    assert not hasattr(llama, "_extmem")


def test_trainer_evaluates_with_the_memory_and_trains_without(llama, memory, tmp_path):
    memorize(llama, hosts.tokenizer(), memory, {"with": TEXT})
    rows = [{"input_ids": row, "labels": row} for row in whole()[0, :192].view(4, 48)]
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no"}
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, save_strategy="no", per_device_eval_batch_size=2,
        gradient_accumulation_steps=2, per_device_train_batch_size=1, **quiet,
    )  # fmt: skip
    twin = deepcopy(llama)
    alone = Trainer(llama, args, train_dataset=rows, eval_dataset=rows).evaluate()["eval_loss"]
    attach(llama, memory)
    trainer = Trainer(llama, args, train_dataset=rows, eval_dataset=rows)
    with torch.no_grad():
        direct = torch.stack([llama(row["input_ids"][None], labels=row["labels"][None]).loss for row in rows]).mean()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(direct), rel=1e-4)
    assert float(direct) < alone
    trained = trainer.train().training_loss
    assert trained == pytest.approx(Trainer(twin, args, train_dataset=rows).train().training_loss, rel=1e-6)
    with torch.no_grad(), pytest.raises(WrongModel, match="other weights"):  # its states are not those in the memory
        attach(llama, memory)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's, of transformers
def test_an_adapter_of_pefts_is_another_model(llama, memory):
    peft = pytest.importorskip("peft")
    memorize(llama, hosts.tokenizer(), memory, {"with": TEXT})
    adapted = peft.get_peft_model(llama, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    with pytest.raises(WrongModel):
        attach(adapted, memory)
    with Memory() as other:
        memorize(adapted, hosts.tokenizer(), other, {"with": TEXT})
        attach(adapted, other, lam=0.8)
        adapted.generate(**asked(), max_new_tokens=4, do_sample=False)
        assert any(token.citations for row in citations(adapted) for token in row)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning", "ignore:torch.ao:DeprecationWarning")
def test_quantised_weights_are_read_as_any(llama, memory):
    small = torch.ao.quantization.quantize_dynamic(llama, {torch.nn.Linear}, dtype=torch.qint8)
    memorize(small, hosts.tokenizer(), memory, {"with": TEXT})
    attach(small, memory, lam=0.8)
    small.generate(**asked(), max_new_tokens=4, do_sample=False)
    assert any(token.citations for row in citations(small) for token in row)


@pytest.mark.parametrize("kind", hosts.SEQ2SEQ)
def test_a_model_with_an_encoder_memorizes_pairs(kind, memory):
    model, tokenizer = hosts.model(kind), hosts.tokenizer(ends=True)
    done = memorize(model, tokenizer, memory, PAIRS)
    assert done.documents == 3 and dict(memory.items()) == PAIRS
    assert memorize(model, tokenizer, memory, PAIRS).documents == 0
    attach(model, memory, lam=0.95, temperature=1e-3, tokenizer=tokenizer)
    sources = tokenizer(list(PAIRS), return_tensors="pt", padding=True)
    for decoding in ({}, {"num_beams": 2}):
        written = model.generate(**sources, max_new_tokens=30, do_sample=False, **decoding)
        assert tokenizer.batch_decode(written, skip_special_tokens=True) == list(PAIRS.values())
        for (source, target), row in zip(PAIRS.items(), citations(model), strict=True):
            assert "".join(token.text for token in row) == target
            for token in row:
                best = token.citations[0]
                assert best.key == source and target[best.start : best.end] == token.text
    with torch.no_grad():
        labels = tokenizer(text_target=next(iter(PAIRS.values())), return_tensors="pt")["input_ids"]
        one = tokenizer(next(iter(PAIRS)), return_tensors="pt")
        assert model(**one, labels=labels).loss < 0.2
    with pytest.raises(InvalidInput, match="pairs"):
        memorize(model, tokenizer, memory, ["manual.txt"])


def test_what_is_forgotten_leaves_every_logit_as_if_it_had_never_been(llama, memory):
    other = extmem.Memory()
    for place in (memory, other):
        memorize(llama, hosts.tokenizer(), place, {"first": TEXT[:800], "second": TEXT[800:1600]})
    memorize(llama, hosts.tokenizer(), memory, {"secret": TEXT[1600:2400]})
    attach(llama, memory, lam=0.8)
    model_reads = [llama(whole()).logits.detach()]
    memory.forget("secret")
    model_reads.append(llama(whole()).logits.detach())  # the very next pass
    attach(llama, other, lam=0.8)
    model_reads.append(llama(whole()).logits.detach())
    assert not torch.equal(model_reads[0], model_reads[1])
    assert torch.equal(model_reads[1], model_reads[2])
    for key in ("first", "second"):
        other.forget(key)
    assert other.datastores() == [] and other.verify() == []
    detach(llama)
    assert torch.equal(llama(whole()).logits, llama.forward(whole()).logits)


def test_a_long_text_is_read_in_windows_that_overlap(llama, memory):
    long = TEXT * 3
    memorize(llama, hosts.tokenizer(), memory, {"long": long})
    (datastore,) = memory.datastores()
    ids = [1, *hosts.tokenizer()(long, add_special_tokens=False, verbose=False)["input_ids"]]
    assert len(ids) > 4 * 256 and datastore.tokens.tolist() == ids[1:]
    caught = []
    handle = llama.lm_head.register_forward_pre_hook(lambda _, given: caught.append(given[0][0]))
    with torch.no_grad():
        llama(torch.tensor([ids[:256]]))
        llama(torch.tensor([ids[128 : 128 + 256]]))
    handle.remove()
    keys = torch.tensor(datastore.view().keys(np.arange(256 + 128)))
    torch.testing.assert_close(keys[:256], caught[0], atol=2e-3, rtol=1e-2)
    torch.testing.assert_close(keys[256:], caught[1][128:], atol=2e-3, rtol=1e-2)


@pytest.mark.parametrize("preset", ["accurate", "compact"])
def test_many_entries_are_searched_by_codes_that_no_record_has_a_part_in(llama, tmp_path, monkeypatch, preset):
    monkeypatch.setattr("extmem.indexes.datastore.Limits.__init__.__defaults__", (300, 524_288, 128))
    with Memory(tmp_path / "m") as memory:
        memorize(llama, hosts.tokenizer(), memory, {"a": TEXT[:2000], "b": TEXT[2000:]}, preset=preset)
        (datastore,) = memory.datastores()
        assert datastore.quantizer is not None
        kept, quantizer = datastore.preset, datastore.quantizer.name
        assert kept == preset
    with Memory() as other:
        attach(llama, other, lam=0.9)  # what the model draws does not read it
        memorize(llama, hosts.tokenizer(), other, {"c": TEXT[1500:3500], "d": TEXT[:1200]}, preset=preset)
        assert other.datastores()[0].quantizer.name == quantizer
    with Memory(tmp_path / "m") as memory:
        (datastore,) = memory.datastores()
        assert len(datastore.view()) > 300 and datastore.quantizer.name == quantizer
        attach(llama, memory, lam=0.8, tokenizer=hosts.tokenizer())
        llama.generate(**asked(), max_new_tokens=4, do_sample=False)
        assert any(token.citations for row in citations(llama) for token in row)
        assert memory.verify() == []
        memory.forget("a")
        memory.forget("b")
        assert memory.datastores() == [] and not list((tmp_path / "m").rglob("*.safetensors"))


@pytest.mark.parametrize("preset", ["accurate", "compact"])
def test_a_damaged_quantiser_is_found_and_mended(llama, tmp_path, monkeypatch, preset):
    monkeypatch.setattr("extmem.indexes.datastore.Limits.__init__.__defaults__", (300, 524_288, 128))
    monkeypatch.setattr("extmem.adapters.huggingface.memorizing.CODES", (8, 64))
    texts = {"a": TEXT[:2000], "b": TEXT[2000:]}
    with Memory(tmp_path / "m") as memory:
        memorize(llama, hosts.tokenizer(), memory, texts, preset=preset)
    (file,) = (tmp_path / "m").rglob("quantizer.safetensors")
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with Memory(tmp_path / "m") as memory:
        assert any("quantizer.safetensors" in line for line in memory.verify())
        memory.repair()
        assert memory.verify() == []
        memorize(llama, hosts.tokenizer(), memory, texts, preset=preset)
        (datastore,) = memory.datastores()
        assert len(datastore) == len(datastore.tokens) > 900
        attach(llama, memory, lam=0.8, tokenizer=hosts.tokenizer())
        llama.generate(**asked(), max_new_tokens=4, do_sample=False)
        assert any(token.citations for row in citations(llama) for token in row)


def test_a_failed_attach_leaves_what_was_attached(llama, memory):
    memorize(llama, hosts.tokenizer(), memory, {"with": TEXT})
    attach(llama, memory, lam=0.8)
    with torch.no_grad():
        before = llama(whole()).logits
        with pytest.raises(InvalidInput, match="do not belong together"):
            attach(llama, memory, tokenizer=hosts.tokenizer(words=2000))
        with Memory() as other:
            memorize(hosts.model("gpt2"), hosts.tokenizer(), other, {"with": TEXT[:300]})
            with pytest.raises(WrongModel):
                attach(llama, other)
        assert torch.equal(llama(whole()).logits, before)


def test_fitted_gates_are_kept_by_the_memory_until_a_record_goes(llama, memory):
    memorize(llama, hosts.tokenizer(), memory, {"with": TEXT[:2500]})
    attach(llama, memory)
    with torch.no_grad():
        unfitted = llama(whole()).logits
        fit(llama, hosts.tokenizer(), memory, {"held": TEXT[1500:]})
        fitted = llama(whole()).logits
    assert not torch.equal(unfitted, fitted)
    (datastore,) = memory.datastores()
    assert datastore.fit() is not None
    memory.forget("with")
    memorize(llama, hosts.tokenizer(), memory, {"with": TEXT[:2500]})
    with torch.no_grad():
        assert torch.equal(llama(whole()).logits, unfitted)


def test_bad_input_is_one_line_that_says_the_cure(llama, memory):
    tokenizer, other = hosts.tokenizer(), hosts.tokenizer(words=400)
    bare = llama.model  # without an output embedding
    refused = [
        (InvalidInput, "not a model of Hugging Face's", lambda: attach(torch.nn.Linear(2, 2), memory)),
        (ModelError, "no output embedding", lambda: attach(bare, memory)),
        (InvalidInput, "no module 'nowhere'", lambda: attach(llama, memory, key="nowhere")),
        (InvalidInput, "lam is 2", lambda: attach(llama, memory, lam=2)),
        (InvalidInput, "temperature is 0", lambda: attach(llama, memory, temperature=0)),
        (InvalidInput, "neighbours is 0", lambda: attach(llama, memory, neighbours=0)),
        (InvalidInput, "no memory is attached", lambda: detach(llama)),
        (InvalidInput, "nothing is memorized yet", lambda: fit(llama, tokenizer, memory, {"a": TEXT})),
        (InvalidInput, "do not belong together", lambda: memorize(llama, hosts.tokenizer(words=2000), memory, {})),
    ]
    for kind, match, work in refused:
        with pytest.raises(kind, match=match) as raised:
            work()
        assert "\n" not in str(raised.value)
    memorize(llama, tokenizer, memory, {"with": TEXT[:500]})
    with pytest.raises(InvalidInput, match="another tokenizer"):
        memorize(llama, other, memory, {"more": TEXT})
    with pytest.raises(WrongModel, match="memorized by another model"):
        attach(hosts.model("gpt2"), memory)
    attach(llama, memory)
    with pytest.raises(InvalidInput, match="nothing was generated"):
        citations(llama)
    assert dict(memory.items()) == {"with": TEXT[:500]}
