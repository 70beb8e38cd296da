"""Releases that are loaded but not real: texts are their own tokens, and the engine does as a test says."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from octavo.engines.open import Backend
from octavo.errors import InputError
from octavo.serve.loaded import LoadedRelease
from octavo.serve.refusals import UnknownModel
from octavo.serve.service import BatchRun, ModelInfo, Reply
from octavo.text.batch import TokenBatch
from octavo.types import Outputs


class FakeTask:
    """Items are texts, or lists of texts that are answered as one. The answer is what the engine made of each."""

    def prepare(self, items: Sequence[Any]) -> list[str]:
        texts = [text for item in items for text in ([item] if isinstance(item, str) else item)]
        if "unfit" in texts:
            raise InputError("An item is unfit.")
        return texts

    def decode(self, outputs: Outputs, items: Sequence[Any]) -> list[Any]:
        values = iter([float(outputs[i][0, 0]) for i in range(len(outputs))])
        return [next(values) if isinstance(item, str) else [next(values) for _ in item] for item in items]


class FakeTokenizer:
    """A token for each character, and only the first `max_length` of them."""

    max_length = 10_000

    def uncut_length(self, item: str) -> int:
        return len(item)

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        if "unreadable" in texts:
            raise InputError("A text is unreadable.")
        if "panic" in texts:
            raise BaseException("a panic")
        return TokenBatch.from_sequences([[ord(c) for c in text[: self.max_length]] for text in texts])


@dataclass
class FakeEngine:
    """Answers each text with `answer_of` it; `batches` are the texts that it was given.

    While `gate` is closed, calls wait there: `waiting` counts them.
    """

    answer_of: Callable[[str], float] = len
    batches: list[list[str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    error: BaseException | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, batch: TokenBatch) -> Any:
        texts = ["".join(map(chr, ids)) for ids in np.split(batch.ids, batch.offsets[1:-1])]
        self.batches.append(texts)
        self.waiting.release()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        assert not self.closed, "an engine was run after it was freed"
        return np.array([[self.answer_of(text)] for text in texts], np.float32)

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


@dataclass
class FakeModel:
    engine: FakeEngine
    tokenizer: FakeTokenizer = field(default_factory=FakeTokenizer)

    def close(self) -> None:
        self.engine.closed = True


def fake_release(version: str = "1", *, model: str = "intents", **engine: Any) -> LoadedRelease:
    info = ModelInfo(
        model=model,
        version=version,
        task=cast(Any, FakeTask()),
        max_length=64,
        backend=Backend.NATIVE,
        engine_id="native-1.0/int8",
        precision="int8",
        certificate=cast(Any, None),
        sha256=f"{model}-{version}",
        since="2026-01-02T03:04:05Z",
    )
    return LoadedRelease(cast(Any, FakeModel(FakeEngine(**engine))), info)


def engine_of(release: LoadedRelease) -> FakeEngine:
    return cast(FakeEngine, release.model.engine)


@dataclass
class FakeRegistry:
    """Releases by model, without a store."""

    releases: dict[str, LoadedRelease]
    trials: dict[str, LoadedRelease] = field(default_factory=dict)
    tried: bool = True

    def models(self) -> list[str]:
        return sorted(self.releases)

    def serving(self, model: str) -> LoadedRelease:
        if model not in self.releases:
            raise UnknownModel(f"There is no model {model}.")
        return self.releases[model]

    def trial(self, model: str) -> LoadedRelease | None:
        return self.trials.get(model)


@dataclass
class Heard:
    """A listener that remembers."""

    replies: list[tuple[Reply, float]] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    runs: list[BatchRun] = field(default_factory=list)
    queue: list[tuple[str, int, int]] = field(default_factory=list)
    swaps: list[tuple[str, str | None, str | None, str | None]] = field(default_factory=list)

    def answered(self, reply: Reply, seconds: float) -> None:
        self.replies.append((reply, seconds))

    def refused(self, model: str, reason: str) -> None:
        self.refusals.append((model, reason))

    def ran(self, batch: BatchRun) -> None:
        self.runs.append(batch)

    def queued(self, model: str, requests: int, tokens: int) -> None:
        self.queue.append((model, requests, tokens))

    def swapped(self, model: str, old: str | None, new: str | None, seconds: float, error: str | None) -> None:
        self.swaps.append((model, old, new, error))
