"""A `Service` that answers at once, in the event loop, with tiny random models of all four tasks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from octavo.engines.open import Backend
from octavo.errors import InputError
from octavo.serve.job import check_whole
from octavo.serve.refusals import BadRequest, UnknownModel
from octavo.serve.service import ModelInfo, Reply, Request, Timing
from octavo.store.model import Model
from octavo.tasks.base import Reads, Task
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.rank import Rank
from octavo.tasks.tag import Tag
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer
from octavo.types import Outputs, Verdict

MAX_LENGTH = 32
TASKS: dict[str, Task] = {
    "intent": Classify(tuple(f"label {i}" for i in range(5))),
    "slots": Tag(("O", "B-room", "I-room"), ("on", "off")),
    "match": Embed(prompts=(("query", "find: "), ("document", "passage: ")), dimensions=32),
    "order": Rank(),
}
_WORDS = (
    "turn it off on the lamp in a kitchen book table for two play some music what is weather find passage : b c d e"
)


class RandomEngine:
    """Puts out a random number per token and column, and the mean over a sequence for heads that read one row of it.

    No encoder is as quick to make, and what is tested here does not depend on one.
    """

    engine_id = "random-1.0/fp32"

    def __init__(self, task: Task) -> None:
        width = task.head.outputs or 32
        self._table = np.random.default_rng(0).normal(size=(512, width)).astype(np.float32)
        self._reads_words = task.head.reads is Reads.WORDS
        self._normalizes = task.head.normalize

    def run(self, batch: TokenBatch) -> np.ndarray:
        places = np.concatenate([np.arange(length) for length in np.diff(batch.offsets)])
        rows = self._table[(7 * batch.ids + places) % 512]  # (tokens, width)
        if self._reads_words:
            return rows[batch.reads]
        values = np.stack([part.mean(axis=0) for part in np.split(rows, batch.offsets[1:-1])])  # (sequences, width)
        return values / np.linalg.norm(values, axis=1, keepdims=True) if self._normalizes else values

    def close(self) -> None: ...


def make_tiny_models() -> dict[str, Model]:
    """Return a model per task, loaded, by name. They were never published: no store, no certificate."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS.split()]
    made = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = Tokenizer.from_bytes(made.to_str().encode(), max_length=MAX_LENGTH, source="tokenizer.json")
    return {
        name: Model(None, None, None, task, tokenizer, RandomEngine(task), Backend.NATIVE)  # type: ignore[arg-type]
        for name, task in TASKS.items()
    }


@dataclass
class DirectService:
    """Answers in the event loop; can be told to take its time, to refuse, and to fail.

    Attributes:
        loaded: models by name; all of them serve as version 3, and version 2 is loaded beside it.
        asked: what was asked for.
        left: how many requests were cancelled.
        delay_s: before each answer.
        error: raised in place of an answer.
    """

    loaded: dict[str, Model]
    ready: bool = True
    asked: list[Request] = field(default_factory=list)
    left: int = 0
    delay_s: float = 0.0
    error: Exception | None = None

    def models(self) -> Sequence[ModelInfo]:
        return [self.model(name) for name in sorted(self.loaded)]

    def model(self, name: str, version: str | None = None) -> ModelInfo:
        if name not in self.loaded:
            raise UnknownModel(f"There is no model '{name}'. There are: {', '.join(sorted(self.loaded))}.")
        if version not in (None, "3", "2"):
            raise UnknownModel(f"Version {version} of '{name}' is not loaded. Loaded are: 3, 2.")
        return ModelInfo(
            model=name,
            version=version or "3",
            task=self.loaded[name].task,
            max_length=MAX_LENGTH,
            backend=Backend.NATIVE,
            engine_id=RandomEngine.engine_id,
            precision="fp32",
            certificate=SimpleNamespace(verdict=Verdict.PASS),  # type: ignore[arg-type]
            sha256="a" * 64,
            since="2026-01-02T03:04:05Z",
        )

    def versions(self, name: str) -> Sequence[str]:
        self.model(name)
        return ["3", "2"]

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        if self.delay_s:
            try:
                await asyncio.sleep(self.delay_s)
            except asyncio.CancelledError:
                self.left += 1
                raise
        if self.error is not None:
            raise self.error
        return self._answered(request)

    def _answered(self, request: Request) -> Reply:
        info, model = self.model(request.model, request.version), self.loaded[request.model]
        try:
            inputs = model.task.prepare(request.items)
            batch = model.tokenizer.encode(inputs)
        except InputError as error:
            raise BadRequest(str(error)) from error
        if request.whole:
            check_whole(inputs, batch.lengths, model.tokenizer)
        outputs = Outputs(model.engine.run(batch), batch.read_offsets)
        answers = model.task.decode(outputs, request.items) if request.decode else []
        return Reply(info.model, info.version, answers, outputs, len(batch.ids), Timing(0.5, 0.25, 0.125))


class HeardRefusals:
    """A listener that keeps the refusals that it hears of, and nothing else."""

    def __init__(self) -> None:
        self.reasons: list[tuple[str, str]] = []

    def refused(self, model: str, reason: str) -> None:
        self.reasons.append((model, reason))

    def answered(self, reply: Reply, seconds: float) -> None: ...

    def ran(self, batch: Any) -> None: ...

    def queued(self, model: str, requests: int, tokens: int) -> None: ...

    def swapped(self, model: str, old: str | None, new: str | None, seconds: float, error: str | None) -> None: ...
