"""Running the program, in a process of its own or in this one; a tiny encoder, and rows of every task to teach it."""

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Ran:
    """How the program ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def program() -> str:
    """Return the installed program."""
    return str(Path(sys.executable).with_name("octavo"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return variables for the program: its own cache, and one thread, which tiny models like best."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "OCTAVO_CACHE": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


@pytest.fixture(scope="session")
def octavo(program: str, environment: dict[str, str]) -> Callable[..., Ran]:
    """Run a command line and return how it ended; it must not be a traceback."""

    def run(*arguments: object, text: str = "", variables: Sequence[tuple[str, str]] = ()) -> Ran:
        ran = subprocess.run(
            [program, *map(str, arguments)],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env=environment | dict(variables),
        )
        assert "Traceback" not in ran.stdout + ran.stderr, ran.stderr
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    return run


@pytest.fixture(scope="session")
def octavo_here() -> Callable[..., Ran]:
    """Run a command line in this process, which has torch loaded already; it must not be a traceback."""
    from octavo.cli import main

    def run(*arguments: object) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
        assert "Traceback" not in out.getvalue() + err.getvalue()
        return Ran(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="module", autouse=True)
def own_cache(environment: dict[str, str]) -> Iterator[None]:
    """Keep compiled engines where the program's own processes keep them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OCTAVO_CACHE", "COLUMNS"):
            patch.setenv(name, environment[name])
        yield


@pytest.fixture(scope="session", autouse=True)
def traces_of_all_tests() -> Iterator[None]:
    """Trace each form of model once in all tests: tracing takes seconds, and everything else of a tiny model less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octavo.export.onnx_graph._MOST_TRACES", 100)
        yield


# Rows that a random encoder learns in a moment: each thing, place and opening is one token.
OPENINGS = ("please", "now", "hey", "quick", "can you", "i want to")
GENRES = ("jazz", "rock", "blues", "folk", "soul", "punk")
PLACES = ("kitchen", "hall", "garden", "attic", "cellar", "garage")
INTENTS = {"music": "play", "light": "brighten", "booking": "reserve"}
_MORE_WORDS = ("in", "the", "songs", "for", "good", "poor", "match", "that", "is", "a")


@pytest.fixture(scope="session")
def tiny_encoder(make_folder: Any) -> Path:
    """Return the folder of a random encoder without a head, with one token a word and a template for pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder: Path = make_folder("bert", kind="Model")
    config = json.loads((folder / "config.json").read_bytes())
    # Training sets dropout to 0, and a model of another dropout is traced anew, which takes longer than all else.
    (folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.0}), "utf-8")
    phrases = (*OPENINGS, *GENRES, *PLACES, *INTENTS.values(), *_MORE_WORDS)
    words = sorted({word for phrase in phrases for word in phrase.split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@dataclass(frozen=True)
class Rows:
    """Rows of one task on the disk, in one of its forms.

    Attributes:
        name: of the task and the form.
        task: `classify`, `tag`, `embed` or `rank`.
        train, dev, test: the files.
        items: what a release is asked in Python.
        typed: the same as arguments of a command.
    """

    name: str
    task: str
    train: Path
    dev: Path
    test: Path
    items: list[Any]
    typed: list[str]


@pytest.fixture(scope="session")
def rows_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Rows]:
    """Return the rows of a task by its name, such as `tag` or `embed-pairs`, written once."""
    written: dict[str, Rows] = {}

    def rows(name: str) -> Rows:
        if name not in written:
            written[name] = _written(name, tmp_path_factory.mktemp(name))
        return written[name]

    return rows


@pytest.fixture(scope="session")
def teacher_of(
    octavo_here: Callable[..., Ran],
    rows_of: Callable[[str], Rows],
    tiny_encoder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Path, Any]]:
    """Return the folder of a teacher for some rows, and what `octavo finetune --json` said when it made it."""
    made: dict[str, tuple[Path, Any]] = {}

    def teacher(name: str) -> tuple[Path, Any]:
        if name not in made:
            rows, out = rows_of(name), tmp_path_factory.mktemp(f"finetuned-{name}") / "teacher"
            files = ("--train", rows.train, "--dev", rows.dev, "--out", out)
            how = ("--epochs", 5, "--learning-rate", "3e-3", "--batch-size", 8, "--max-length", 32)
            ran = octavo_here("finetune", tiny_encoder, "--task", rows.task, *files, *how, "--json")
            assert ran.code == 0, ran.err
            made[name] = out, ran.document
        return made[name]

    return teacher


_COUNTS = {"train": 120, "dev": 40, "test": 120}


def _written(name: str, folder: Path) -> Rows:
    task = name.partition("-")[0]
    if name == "embed-beir":
        files = _write_beir(folder)
    else:
        make = {
            "classify": _labelled,
            "tag": _tagged,
            "embed-pairs": _query_and_document,
            "rank-lists": _candidates,
            "rank-pairs": _judged_pair,
        }[name]
        files = {}
        for seed, (split, count) in enumerate(_COUNTS.items()):
            rng = random.Random(seed)
            files[split] = folder / f"{split}.jsonl"
            _write_lines(files[split], [make(rng, number) for number in range(count)])
    return Rows(name, task, **files, items=ITEMS[task], typed=TYPED[task])


QUERY = "please play jazz in the kitchen"
CANDIDATES = ["poor match rock", "good match jazz", "poor match folk"]
ITEMS: dict[str, list[Any]] = {
    "classify": [QUERY, "reserve the garden"],
    "tag": [QUERY, ["reserve", "the", "garden"]],
    "embed": [QUERY, {"document": "jazz songs for the kitchen"}],
    "rank": [(QUERY, CANDIDATES)],
}
TYPED = {
    "classify": [QUERY, "reserve the garden"],
    "tag": [QUERY, '["reserve", "the", "garden"]'],
    "embed": [QUERY, '{"document": "jazz songs for the kitchen"}'],
    "rank": [QUERY, *CANDIDATES],
}


def _labelled(rng: random.Random, number: int) -> dict[str, Any]:
    row = _tagged(rng, number)
    return {"text": " ".join(row["tokens"]), "label": row["intent"]}


def _tagged(rng: random.Random, number: int) -> dict[str, Any]:
    intent = list(INTENTS)[number % len(INTENTS)]
    tagged = [(word, "O") for word in rng.choice(OPENINGS).split()] + [(INTENTS[intent], "O")]
    if intent == "music":
        tagged += [(rng.choice(GENRES), "B-genre"), ("songs", "I-genre")]
    tagged += [("in", "O"), ("the", "O"), (rng.choice(PLACES), "B-place")]
    return {"tokens": [word for word, _ in tagged], "tags": [tag for _, tag in tagged], "intent": intent}


def _query_and_document(rng: random.Random, number: int) -> dict[str, Any]:
    genre, place = GENRES[number % len(GENRES)], PLACES[number // len(GENRES) % len(PLACES)]
    return {
        "query": f"{rng.choice(OPENINGS)} play {genre} in the {place} {number}",  # each query once
        "document": f"{genre} songs for the {place}",
    }


def _write_beir(folder: Path) -> dict[str, Path]:
    """Write one corpus, the queries of all splits, and a qrels file for each split."""
    rng = random.Random(0)
    pairs = {split: [_query_and_document(rng, number) for number in range(count)] for split, count in _COUNTS.items()}
    documents = sorted({pair["document"] for several in pairs.values() for pair in several})
    number = {text: f"d{i}" for i, text in enumerate(documents)}
    _write_lines(folder / "corpus.jsonl", [{"_id": number[text], "title": "", "text": text} for text in documents])
    queries = []
    files = {}
    (folder / "qrels").mkdir()
    for split, several in pairs.items():
        lines = ["query-id\tcorpus-id\tscore"]
        for i, pair in enumerate(several):
            queries.append({"_id": f"{split}{i}", "text": pair["query"]})
            lines.append(f"{split}{i}\t{number[pair['document']]}\t1")
        files[split] = folder / "qrels" / f"{split}.tsv"
        files[split].write_text("\n".join(lines) + "\n", "utf-8")
    _write_lines(folder / "queries.jsonl", queries)
    return files


def _candidates(rng: random.Random, number: int) -> dict[str, Any]:
    relevance = [1, 0, 0, 0]
    rng.shuffle(relevance)
    documents = [f"{'good' if grade else 'poor'} match {rng.choice(GENRES)}" for grade in relevance]
    query = f"{rng.choice(OPENINGS)} play {rng.choice(GENRES)} in the {rng.choice(PLACES)} {number}"
    return {"query": query, "documents": documents, "relevance": relevance}


def _judged_pair(rng: random.Random, number: int) -> dict[str, Any]:
    relevant = number % 2
    # No query has two documents: the number keeps them apart.
    query = f"{rng.choice(OPENINGS)} play {rng.choice(GENRES)} {number}"
    return {
        "query": query,
        "document": f"{('poor', 'good')[relevant]} match {rng.choice(GENRES)}",
        "relevance": relevant,
    }


def _write_lines(file: Path, objects: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(one) + "\n" for one in objects), "utf-8")
