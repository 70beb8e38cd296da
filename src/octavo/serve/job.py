"""A request on its way through the scheduler: what is known of it so far, and how its parts become one reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from octavo.serve.admission import level_in_backlog
from octavo.serve.cache import Key, OutputCache, keys_of
from octavo.serve.loaded import LoadedRelease
from octavo.serve.queue import Work
from octavo.serve.refusals import TooLarge
from octavo.serve.service import Reply, Request, Timing
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer
from octavo.types import FloatArray, Input, IntArray, Outputs, Words


@dataclass(slots=True, eq=False)
class Job:
    """One request. Changed by one thread at a time, or under the scheduler's lock.

    Attributes:
        request: as it came.
        release: that answers; it is pinned until the job is over.
        inputs: what the items come to.
        size_bytes: of their texts.
        future: gets the reply, or the refusal.
        arrival_s: when the request came.
        background: whether it may wait for everything else.
        queued_tokens: that the backlog counts for it.
        in_hand: workers that hold it, or parts of it.
        over: whether it was answered, refused or withdrawn.
        tokens: that were read; 0 before they were.
        tokenize_s: from when its texts were taken until all of them were tokens.
        tokenize_share_s: its own share of that, where other requests' texts were read along.
        batch: where its sequences are, those of other requests maybe among them.
        first_row: of them in the batch.
        work: in the queue.
        keys: for the cache, of all inputs; empty without one.
        known: outputs that the cache had, by input.
        left: sequences that were not run yet.
        chunks: what was run, each with its first sequence.
        spans: when an engine was at work on it.
        level: on which the backlog counts it.
    """

    request: Request
    release: LoadedRelease
    inputs: Sequence[Input]
    size_bytes: int
    future: asyncio.Future[Reply]
    arrival_s: float
    background: bool = False
    queued_tokens: int = 0
    in_hand: int = 0
    over: bool = False
    tokens: int = 0
    tokenize_s: float = 0.0
    tokenize_share_s: float = 0.0
    batch: TokenBatch | None = None
    first_row: int = 0
    work: Work | None = None
    keys: Sequence[Key] = ()
    known: dict[int, FloatArray] = field(default_factory=dict)
    left: int = 0
    chunks: list[tuple[int, Outputs]] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    level: int = field(init=False)

    def __post_init__(self) -> None:
        self.level = level_in_backlog(self.request.priority, self.background)

    def read(self, batch: TokenBatch, first_row: int, cache: OutputCache | None) -> None:
        """Take its sequences out of a batch, beginning with `first_row`, and look them up.

        Raises:
            TooLarge: one of them was cut, and the request wants them whole.
        """
        stop = first_row + len(self.inputs)
        if self.request.whole:
            check_whole(self.inputs, batch.lengths[first_row:stop], self.release.model.tokenizer)
        self.tokens = int(batch.offsets[stop] - batch.offsets[first_row])
        self.batch, self.first_row = batch, first_row
        if cache is not None:
            self.keys = keys_of(self.release.info.sha256, batch, first_row, stop)
            self.known = cache.get(self.keys)
            if self.known:
                missed = [first_row + i for i in range(len(self.inputs)) if i not in self.known]
                self.batch, self.first_row = batch.select(missed), 0
        self.left = len(self.inputs) - len(self.known)

    def to_run(self) -> Work:
        """Return the sequences that have to be run, for the queue."""
        assert self.batch is not None
        offsets = self.batch.offsets[self.first_row : self.first_row + self.left + 1].tolist()
        return Work(
            self.release,
            [end - offsets[0] for end in offsets[1:]],
            self.arrival_s,
            self.request.priority,
            self.request.deadline_s,
            self.background,
            self,
        )

    def outputs(self) -> Outputs:
        """Return the outputs to all inputs, in order."""
        if len(self.chunks) == 1 and not self.known:
            return self.chunks[0][1]
        ran = [chunk[i] for _, chunk in sorted(self.chunks, key=lambda chunk: chunk[0]) for i in range(len(chunk))]
        following = iter(ran)
        rows = [self.known[i] if i in self.known else next(following) for i in range(len(self.inputs))]
        return Outputs(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))

    def timing(self, now_s: float) -> Timing:
        """Divide the time until the last engine was done: one was at work, the tokenizer was, or the request waited."""
        until_s = max((end_s for _, end_s in self.spans), default=now_s)
        compute_s = _covered(self.spans)
        waited_s = max(0.0, until_s - self.arrival_s - self.tokenize_s - compute_s)
        return Timing(1000 * waited_s, 1000 * self.tokenize_s, 1000 * compute_s)


def check_whole(inputs: Sequence[Input], lengths: IntArray, tokenizer: Tokenizer) -> None:
    """Refuse texts that had to be cut to the lengths that they have, in tokens. Raises TooLarge."""
    for row in np.flatnonzero(lengths == tokenizer.max_length).tolist():
        item = inputs[row]
        if not isinstance(item, Words) and (uncut := tokenizer.uncut_length(item)) > tokenizer.max_length:
            raise TooLarge(
                f"Input {row} has {uncut} tokens, and the model reads {tokenizer.max_length}. "
                "Shorten it, or let it be cut."
            )


def job_of(work: Work) -> Job:
    """Return the job that a work is of."""
    assert isinstance(work.owner, Job)
    return work.owner


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return how much time the spans cover together; parts may have run side by side."""
    if len(spans) == 1:
        return spans[0][1] - spans[0][0]
    total = until = 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
