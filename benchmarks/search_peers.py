"""Turns of conversations, added one by one and searched: extmem beside mem0, Chroma, LangGraph's store and txtai.

    pip install mem0ai faiss-cpu chromadb langgraph-checkpoint-sqlite langgraph txtai      beside extmem[embeddings]
    python benchmarks/search_peers.py ../shared/data
    python benchmarks/search_peers.py ../shared/data --conversations 1 --only extmem Chroma --json

DATA has locomo/*.json (../shared/data/SOURCES.md). Every store is a process of its own, called as its manual has it,
and works while the others wait; in turn each adds a few turns, and later answers a few questions, beginning with
another one each time. All embed with extmem's own encoder, so what is read of a text is the same as well. The peers get
"speaker: text", extmem the text with metadata, and in one row the peers' text; none has a language model. mem0's search
by words needs a model from the Hub, so it has meaning alone here.

    add      milliseconds until the call returns
    search   milliseconds for 10 hits, with the embedding of the question
    recall   the part of a question's evidence among 10 hits, as in search.py
    durable  a write is on disk (fsync) when it returns; "in part": its tables are, the file of its vectors is not
    kept     a store on disk is killed (SIGKILL) right after the last add: the turns that a new process finds there
    first    seconds until that process answered a question: imports, model, and what the store had left for later;
             in RAM the first search alone
    MB       all that lies on disk after closing
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

K, TOGETHER, SPACE, WARM = 10, 20, ("memories",), "What did they talk about?"  # TOGETHER: calls before the next store's
FAST = 10.0  # milliseconds that a hybrid search may take
SILENT = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "MEM0_TELEMETRY": "False", "ANONYMIZED_TELEMETRY": "False",
    "CHROMA_ANONYMIZED_TELEMETRY": "False", "LANGSMITH_TRACING": "false", "TOKENIZERS_PARALLELISM": "false",
    "ORT_DISABLE_TELEMETRY": "1",
}  # fmt: skip
VERSIONS = ("extmem", "mem0ai", "qdrant-client", "faiss-cpu", "chromadb", "langgraph", "langgraph-checkpoint",
            "langgraph-checkpoint-sqlite", "sqlite-vec", "pysqlite3-binary", "txtai", "torch", "numpy")  # fmt: skip


class Turn(NamedTuple):
    """What is added."""

    key: str
    text: str
    about: dict[str, Any]

    @property
    def said(self) -> str:
        return f"{self.about['speaker']}: {self.text}"


class Store(NamedTuple):
    """One open store, as the calls that are measured."""

    add: Callable[[Turn], Any]
    search: Callable[[str], list[str]]  # the keys of the best
    count: Callable[[], int]
    close: Callable[[], Any]


@lru_cache
def encoder() -> Any:
    from extmem.text.encoder import encoder_named

    return encoder_named("minilm")


def vectors(texts: Any) -> Any:
    """As every peer but mem0 asks for them."""
    return encoder().encode(list(texts))


def extmem(folder: Path | None, embed: bool, by: str = "all", bare: bool = False) -> Store:
    """`bare`: with the peers' text, and no metadata."""
    from extmem import Memory

    memory = Memory(folder and folder / "m")
    if by == "all":
        memory.embed()

    def add(turn: Turn) -> None:
        memory.store(turn.key, turn.said if bare else turn.text, metadata=None if bare else turn.about)
        if embed:
            memory.embed()

    def search(query: str) -> list[str]:
        return [hit.key for hit in memory.search(query, K, by=by)]  # type: ignore[arg-type]

    return Store(add, search, memory.__len__, memory.close)


def mem0(folder: Path, provider: str) -> Store:
    """With the vectors in Qdrant (no server) or FAISS, and the history; the model is never asked (infer=False)."""
    os.environ |= {"MEM0_DIR": str(folder / "mem0"), "HOME": str(folder)}
    from mem0 import Memory
    from mem0.embeddings.base import EmbeddingBase

    class Same(EmbeddingBase):
        def embed(self, text: str, memory_action: object = None) -> Any:
            return encoder().encode([text])[0].tolist()

    there = {"path": str(folder / provider), "embedding_model_dims": encoder().dim}
    unused = {"provider": "openai", "config": {"api_key": "unused"}}
    memory = Memory.from_config({
        "vector_store": {"provider": provider, "config": there | ({"on_disk": True} if provider == "qdrant" else {})},
        "history_db_path": str(folder / "history.db"), "llm": unused, "embedder": unused,
    })  # fmt: skip
    memory.embedding_model = Same()

    def add(turn: Turn) -> None:
        memory.add(turn.said, user_id="user", metadata={"key": turn.key, **turn.about}, infer=False)

    def search(query: str) -> list[str]:
        found = memory.search(query, filters={"user_id": "user"}, top_k=K, threshold=0.0)
        return [hit["metadata"]["key"] for hit in found["results"]]

    def count() -> int:
        return len(memory.get_all(filters={"user_id": "user"}, top_k=100_000)["results"])

    def close() -> None:
        memory.close()
        if provider == "qdrant":
            memory.vector_store.client.close()

    return Store(add, search, count, close)


def chroma(folder: Path | None) -> Store:
    import chromadb
    from chromadb.config import Settings

    class Same(chromadb.EmbeddingFunction):  # type: ignore[type-arg]
        def __init__(self) -> None:
            pass

        def __call__(self, input: Any) -> Any:
            return list(vectors(input))

        @staticmethod
        def name() -> str:
            return "same"

        @staticmethod
        def build_from_config(config: Any) -> Any:
            return Same()

        def get_config(self) -> dict[str, Any]:
            return {}

    settings = Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(folder), settings) if folder else chromadb.EphemeralClient(settings)
    collection = client.get_or_create_collection("memories", embedding_function=Same())

    def add(turn: Turn) -> None:
        collection.add(ids=[turn.key], documents=[turn.said], metadatas=[turn.about])

    def search(query: str) -> list[str]:
        return list(collection.query(query_texts=[query], n_results=K)["ids"][0])

    return Store(add, search, collection.count, getattr(client, "close", lambda: None))


def langgraph(folder: Path | None) -> Store:
    opened = ExitStack()
    index: Any = {"embed": lambda texts: vectors(texts).tolist(), "dims": encoder().dim}
    index |= {"fields": ["text"], "text_fields": ["text"]}  # in RAM it goes by the one name, in SQLite by the other
    store: Any
    if folder:
        _loading_extensions()
        from langgraph.store.sqlite import SqliteStore

        store = opened.enter_context(SqliteStore.from_conn_string(str(folder / "store.db"), index=index))
        store.setup()
    else:
        from langgraph.store.memory import InMemoryStore

        store = InMemoryStore(index=index)

    def add(turn: Turn) -> None:
        store.put(SPACE, turn.key, {"text": turn.said, **turn.about})

    def search(query: str) -> list[str]:
        return [item.key for item in store.search(SPACE, query=query, limit=K)]

    return Store(add, search, lambda: len(store.search(SPACE, limit=100_000)), opened.close)


def _loading_extensions() -> None:
    """sqlite-vec is an extension of SQLite, which some builds of Python's sqlite3 do not load; pysqlite3 does."""
    import sqlite3

    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        sys.modules["sqlite3"] = importlib.import_module("pysqlite3")


def txtai(folder: Path | None) -> Store:
    from txtai import Embeddings

    place = str(folder / "index") if folder else ""
    embeddings = Embeddings(method="external", transform=vectors, hybrid=True, content=True)
    if place and embeddings.exists(place):
        embeddings.load(place, config={"transform": vectors})

    def add(turn: Turn) -> None:
        embeddings.upsert([(turn.key, {"text": turn.said, **turn.about}, None)])
        if place:
            embeddings.save(place)

    def search(query: str) -> list[str]:
        return [hit["id"] for hit in embeddings.search(query, K)]

    return Store(add, search, embeddings.count, embeddings.close)


class Peer(NamedTuple):
    """A store by name, what it finds by, and what it promises."""

    open: Callable[[Path], Store]
    finds: str
    durable: str


RAM, DISK, BOTH = "RAM", "yes", "words, meaning"
OURS, EMBEDDED, WORDS, OURS_RAM = "extmem", "extmem, embed() each", "extmem, words alone", "extmem in RAM"
PEERS = {
    OURS: Peer(lambda folder: extmem(folder, False), BOTH, DISK),
    EMBEDDED: Peer(lambda folder: extmem(folder, True), BOTH, DISK),
    WORDS: Peer(lambda folder: extmem(folder, False, "words"), "words", DISK),
    "mem0, Qdrant + history": Peer(lambda folder: mem0(folder, "qdrant"), "meaning", DISK),
    "mem0, FAISS + history": Peer(lambda folder: mem0(folder, "faiss"), "meaning", "in part"),
    "Chroma": Peer(chroma, "meaning", DISK),
    "LangGraph SqliteStore": Peer(langgraph, "meaning", DISK),
    "txtai, save() each": Peer(txtai, BOTH, "in part"),
    OURS_RAM: Peer(lambda _: extmem(None, False), BOTH, RAM),
    "extmem in RAM, embed() each": Peer(lambda _: extmem(None, True), BOTH, RAM),
    "extmem in RAM, peers' text": Peer(lambda _: extmem(None, False, bare=True), BOTH, RAM),
    "Chroma in RAM": Peer(lambda _: chroma(None), "meaning", RAM),
    "LangGraph InMemoryStore": Peer(lambda _: langgraph(None), "meaning", RAM),
    "txtai": Peer(lambda _: txtai(None), BOTH, RAM),
}


class Worker:
    """A store at work, in its process."""

    def __init__(self, name: str, folder: Path) -> None:
        self.peer, self.folder = PEERS[name], folder
        self.store: Store | None = None

    def fresh(self) -> None:
        """Opens it, and has the model ready."""
        encoder().encode([WARM] * 3)
        self.store = self.peer.open(self.folder)

    def again(self) -> dict[str, Any]:
        """Opens what another process left; how many turns are there, and how long the first answer took."""
        began = time.perf_counter()
        self.store = self.peer.open(self.folder)
        self.store.search(WARM)
        return {"first": time.perf_counter() - began, "kept": self.store.count()}

    def add(self, turns: list[Any]) -> list[float]:
        """Seconds for each."""
        assert self.store is not None
        return [timed(self.store.add, Turn(*turn))[0] for turn in turns]

    def search(self, queries: list[str]) -> list[tuple[float, list[str]]]:
        assert self.store is not None
        return [timed(self.store.search, query) for query in queries]

    def close(self) -> int:
        """Bytes on disk afterwards."""
        assert self.store is not None
        self.store.close()
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def timed(call: Callable[[Any], Any], given: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = call(given)
    return time.perf_counter() - began, answer


def serve(name: str, folder: Path) -> None:
    worker = Worker(name, folder)
    for line in sys.stdin:
        said, *given = json.loads(line)
        try:
            answer = {"answer": getattr(worker, said)(*given)}
        except ImportError as error:
            answer = {"trouble": f"not installed: {error}"}
        except Exception as error:
            answer = {"trouble": f"cannot run: {type(error).__name__}: {error}"}
        print("\n=> " + json.dumps(answer), flush=True)


class Contender:
    """One store over all conversations, in one process after another."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.peer, self.home = name, PEERS[name], folder
        self.trouble = ""
        self.adds: list[float] = []
        self.searches: list[float] = []
        self.recalls: list[float] = []
        self.firsts: list[float] = []
        self.bytes_ = self.turns = self.kept = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self, conversation: str) -> None:
        folder = self.home / "".join(letter for letter in self.name if letter.isalnum()) / conversation
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", self.name, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=os.environ | SILENT,
        )  # fmt: skip

    def ask(self, step: str, *given: Any) -> Any:
        """The answer; None and `trouble` where the store cannot do it."""
        if self.trouble:
            return None
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps([step, *given]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        for line in self.process.stdout:
            if line.startswith("=> "):
                said = json.loads(line[3:])
                self.trouble = said.get("trouble", "").partition("\n")[0][:150]
                break
        else:
            self.trouble = f"stopped with status {self.process.wait()} at {step}"
        if self.trouble:
            say(f"{self.name}: {self.trouble}")
            return None
        return said["answer"]

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"store": self.name, "finds_by": self.peer.finds, "durable": self.peer.durable}
        if self.trouble or not self.searches:
            return row | {"trouble": self.trouble or "nothing to do"}
        disk = {"turns": self.turns, "kept": self.kept, "bytes": self.bytes_} if self.peer.durable != RAM else {}
        return row | {
            "add_ms": {"p50": 1e3 * median(self.adds), "p90": 1e3 * part(self.adds, 0.9)},
            "search_ms": {"p50": 1e3 * median(self.searches), "p99": 1e3 * part(self.searches, 0.99)},
            "recall@10": mean(self.recalls),
            "first_s": median(self.firsts),
            **disk,
        }


def part(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compare(task: Any, contenders: list[Contender]) -> None:
    """All of them on one conversation, in turn."""
    turns = [Turn(*record) for record in task.records]
    for contender in contenders:
        contender.start(task.name)
        contender.ask("fresh")
    for number, at in enumerate(range(0, len(turns), TOGETHER)):
        for contender in turned(contenders, number):
            contender.adds += contender.ask("add", turns[at : at + TOGETHER]) or []
    say(f"{task.name}: {len(turns):,} turns added")
    for contender in contenders:
        if contender.trouble:
            continue
        if contender.peer.durable == RAM:
            contender.firsts.append(contender.ask("search", [WARM])[0][0])
            continue
        contender.stop()
        contender.start(task.name)
        if found := contender.ask("again"):
            contender.firsts.append(found["first"])
            contender.turns += len(turns)
            contender.kept += found["kept"]
    for contender in contenders:
        contender.ask("search", [question.text for question in task.questions[:3]])
    for number, at in enumerate(range(0, len(task.questions), TOGETHER)):
        asked = task.questions[at : at + TOGETHER]
        for contender in turned(contenders, number):
            answers = contender.ask("search", [question.text for question in asked]) or []
            contender.searches += [took for took, _ in answers]
            for question, (_, found) in zip(asked, answers, strict=bool(answers)):
                contender.recalls.append(len(question.evidence & set(found[:K])) / len(question.evidence))
    say(f"{task.name}: {len(task.questions):,} questions asked")
    for contender in contenders:
        contender.bytes_ += contender.ask("close") or 0
        contender.stop()


def turned(contenders: list[Contender], number: int) -> list[Contender]:
    turn = number % len(contenders)
    return contenders[turn:] + contenders[:turn]


def claims(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What extmem is meant to be ahead in: p50 of both in milliseconds, and whether it is."""
    found = []
    for ours in (OURS, EMBEDDED):
        for name, row in rows.items():
            if (
                row["durable"] != RAM
                and not name.startswith("extmem")
                and "add_ms" in row
                and "add_ms" in rows.get(ours, {})
            ):
                pair = rows[ours]["add_ms"]["p50"], row["add_ms"]["p50"]
                found.append({"claim": f"{ours}: adds before {name}", "ours": pair[0], "limit": pair[1]})
    for ours in (OURS, EMBEDDED, OURS_RAM):
        if "search_ms" in rows.get(ours, {}):
            took = rows[ours]["search_ms"]["p50"]
            found.append({"claim": f"{ours}: a search by words and meaning", "ours": took, "limit": FAST})
    return [one | {"holds": one["ours"] < one["limit"]} for one in found]


def versions() -> dict[str, str]:
    there = {name: "-" for name in VERSIONS}
    for name in VERSIONS:
        try:
            there[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return there


def table(about: dict[str, Any]) -> str:
    """What was found, for people."""
    names = ", ".join(about["conversations"])
    lines = [f"conversations: {names}; {about['turns']:,} turns, {about['questions']:,} questions", ""]
    head = f"{'':29}{'finds by':16}{'durable':15}{'add p50':>9}{'p90':>8}{'search p50':>12}{'p99':>8}{'recall@10':>11}"
    lines += [f"{head}{'first s':>9}{'MB':>8}  kept"]
    for ram in (False, True):
        for row in about["rows"]:
            if (row["durable"] == RAM) != ram:
                continue
            left = f"{row['store']:29}{row['finds_by']:16}{row['durable']:15}"
            if "trouble" in row:
                lines.append(f"{left}{row['trouble']}")
                continue
            add, search = row["add_ms"], row["search_ms"]
            left += f"{add['p50']:>9.2f}{add['p90']:>8.2f}{search['p50']:>12.2f}{search['p99']:>8.2f}"
            left += f"{row['recall@10']:>11.3f}{row['first_s']:>9.3f}"
            disk = f"{row['bytes'] / 1e6:>8.2f}  {row['kept']:,} of {row['turns']:,}" if "bytes" in row else ""
            lines.append(left + disk)
        lines.append("")
    for one in about["claims"]:
        verdict = "yes" if one["holds"] else "NO"
        lines.append(f"{one['claim']:58}{one['ours']:>8.2f} ms, to be under {one['limit']:>7.2f}  {verdict}")
    return "\n".join([*lines, "", ", ".join(f"{name} {version}" for name, version in about["versions"].items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the folder of the data sets")
    parser.add_argument(
        "--conversations", type=int, default=1, help="of LoCoMo's; first those its weights were not found with"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of these: {', '.join(PEERS)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return serve(given.worker[0], Path(given.worker[1]))
    if given.data is None:
        parser.error("give the folder of the data sets")
    if unknown := set(given.only or ()) - set(PEERS):
        parser.error(f"no store is called {', '.join(unknown)}: there are {', '.join(PEERS)}")
    from search import DEVELOPED, locomo

    every = sorted(locomo(given.data), key=lambda task: task.name in DEVELOPED)
    tasks = every[: given.conversations]
    with tempfile.TemporaryDirectory(prefix="extmem-peers-") as folder, ExitStack() as stack:
        contenders = [Contender(name, Path(folder)) for name in PEERS if not given.only or name in given.only]
        for contender in contenders:
            stack.callback(contender.stop)
        for task in tasks:
            compare(task, contenders)
        rows = {contender.name: contender.row() for contender in contenders}
    about = {
        "conversations": [task.name for task in tasks],
        "turns": sum(len(task.records) for task in tasks),
        "questions": sum(len(task.questions) for task in tasks),
        "rows": list(rows.values()),
        "claims": claims(rows),
        "versions": versions(),
    }
    print(json.dumps(about, indent=1) if given.json else table(about))


if __name__ == "__main__":
    main()
