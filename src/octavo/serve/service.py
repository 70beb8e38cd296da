"""What dialects, metrics and the search pipeline know of the service.

The scheduler and the registry stand behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from octavo.certify.certificate import Certificate
from octavo.engines.open import Backend
from octavo.tasks.base import Task
from octavo.types import Outputs


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A release that serves.

    Attributes:
        model: its name.
        version: of the release.
        task: what it does; `task.name` says which of the four, and its fields what its answers are made of.
        max_length: tokens per input; what is longer is cut.
        backend: the engine that runs it.
        engine_id: the engine in full, as certificates name it.
        precision: `int8` or `fp32`.
        certificate: that covers the engine.
        sha256: of the release.
        since: when it began to serve, ISO 8601, UTC.
    """

    model: str
    version: str
    task: Task
    max_length: int
    backend: Backend
    engine_id: str
    precision: str
    certificate: Certificate
    sha256: str
    since: str


@dataclass(frozen=True, slots=True)
class Request:
    """Some items for one model, which become one answer of one version.

    Attributes:
        model: its name.
        items: as the model's `task.prepare` takes them; at least one.
        version: ask this one of those that are loaded; None for whichever serves.
        deadline_s: by `time.monotonic()`, when the client stops waiting; None for never.
        priority: lower goes first; what has waited long goes before either.
        decode: whether answers are wanted; else the raw outputs suffice (`Reply.answers` is empty).
        whole: whether a text that the model cannot hold is refused, in place of being cut.
    """

    model: str
    items: Sequence[Any]
    version: str | None = None
    deadline_s: float | None = None
    priority: int = 0
    decode: bool = True
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a request's time went. A request that is split waits and computes in parts: sums over its longest path."""

    queue_ms: float
    tokenize_ms: float
    compute_ms: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request, all of it made by one version.

    Attributes:
        model: that answered.
        version: that answered.
        answers: what `task.decode` made of the outputs, one per item; empty where the request wanted none.
        outputs: as the engine gave them, one or more rows per input.
        tokens: that were read.
        cached: inputs whose outputs were known already.
        timing: where the time went.
    """

    model: str
    version: str
    answers: Sequence[Any]
    outputs: Outputs
    tokens: int
    timing: Timing
    cached: int = 0


class Service(Protocol):
    """Answers requests. All methods are called on the event loop, and none of them blocks it."""

    @property
    def ready(self) -> bool:
        """Whether at least one model serves, every model of the store has been tried, and nobody asked to stop."""

    def models(self) -> Sequence[ModelInfo]:
        """Return what serves now, one release per model, sorted by name."""

    def model(self, name: str, version: str | None = None) -> ModelInfo:
        """Return the release that serves a model, or one of its loaded versions. Raises UnknownModel."""

    def versions(self, name: str) -> Sequence[str]:
        """Return the loaded versions of a model, the serving one first. Raises UnknownModel."""

    async def ask(self, request: Request) -> Reply:
        """Answer a request. Cancelling the awaiting task withdraws what has not been dispatched yet.

        Raises:
            Refusal: one of its kinds.
        """


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One call of an engine, for metrics.

    Attributes:
        model: name.
        version: of the release.
        sequences: in the batch.
        tokens: in the batch, real ones.
        padded_tokens: that the batch would take if each sequence were padded to the longest.
        tokenize_s: of its texts.
        compute_s: of the engine.
        compute_cpu_s: CPU time of the thread that called the engine; one with threads of its own uses more.
    """

    model: str
    version: str
    sequences: int
    tokens: int
    padded_tokens: int
    tokenize_s: float
    compute_s: float
    compute_cpu_s: float


class Listener(Protocol):
    """Hears what happens.

    Called from worker threads and from the event loop: thread-safe, quick, and never raises. Who derives from it hears
    what it has a method for, and lets the rest pass.
    """

    # Bodies say `return`, or a type checker would have them be abstract.

    def answered(self, reply: Reply, seconds: float) -> None:
        """A request was answered, `seconds` after it came."""
        return

    def refused(self, model: str, reason: str) -> None:
        """A request was refused; `model` is "" where it named none that serves."""
        return

    def ran(self, batch: BatchRun) -> None:
        """An engine ran a batch."""
        return

    def queued(self, model: str, requests: int, tokens: int) -> None:
        """The queue of a model now holds so much; tokens are estimated until they are counted."""
        return

    def swapped(self, model: str, old: str | None, new: str | None, seconds: float, error: str | None) -> None:
        """A swap ended: from version `old` (None: first load) to `new`, or failed with `error` and `old` serves on."""
        return


@dataclass(slots=True)
class Listeners:
    """Several listeners as one."""

    members: list[Listener] = field(default_factory=list)

    def answered(self, reply: Reply, seconds: float) -> None:
        """Tell each."""
        for member in self.members:
            member.answered(reply, seconds)

    def refused(self, model: str, reason: str) -> None:
        """Tell each."""
        for member in self.members:
            member.refused(model, reason)

    def ran(self, batch: BatchRun) -> None:
        """Tell each."""
        for member in self.members:
            member.ran(batch)

    def queued(self, model: str, requests: int, tokens: int) -> None:
        """Tell each."""
        for member in self.members:
            member.queued(model, requests, tokens)

    def swapped(self, model: str, old: str | None, new: str | None, seconds: float, error: str | None) -> None:
        """Tell each."""
        for member in self.members:
            member.swapped(model, old, new, seconds, error)
