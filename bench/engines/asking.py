"""How a contender is asked in a case: call by call or as a stream, with tokens or with text, after a warm-up."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

import numpy as np

from bench.engines.models import Subject
from bench.engines.peers import Contender, Run
from bench.engines.plan import OFFLINE, Case, Effort, stream_length
from bench.engines.timing import Job, Turn
from bench.engines.traces import TRACES, texts_of
from octavo.text.batch import TokenBatch

STREAM_BATCHES = (8, 32, 64)  # sizes of the batches of a stream; each contender takes the one that suits it best
_WARM_UP_SHARE = 0.1  # of the time for a case, for each contender
_WARM_UPS = 3  # calls, where there is time for them
_WARM_SEED = 10_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """What a round asks: texts, call by call, and their tokens."""

    texts: list[list[str]]
    batches: list[TokenBatch]

    @property
    def queries(self) -> int:
        """Number of texts."""
        return sum(map(len, self.texts))


@dataclass(frozen=True, slots=True)
class Traffic:
    """The work of each round of a case, the same for all contenders and another in each round."""

    case: Case
    subject: Subject
    effort: Effort
    drawn: dict[int, Work] = field(default_factory=dict)

    def work(self, number: int) -> Work:
        """Return what round `number` asks."""
        if number not in self.drawn:
            self.drawn[number] = self._draw(number)
        return self.drawn[number]

    @property
    def warm(self) -> Work:
        """Return what is asked before anything is timed; of a stream, no more than the largest batch."""
        return self.work(_WARM_SEED)

    def _draw(self, seed: int) -> Work:
        if self.case.batch == OFFLINE:
            calls = 1
            size = max(STREAM_BATCHES) if seed == _WARM_SEED else stream_length(self.effort, self.case)
        else:
            calls, size = (self.effort.singles, 1) if self.case.batch == 1 else (1, self.case.batch)
        texts = texts_of(TRACES[self.case.trace], calls * size, self.subject.words, seed)
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        return Work(parts, [self.subject.tokenizer.encode(part) for part in parts])


@dataclass(frozen=True, slots=True)
class Asked:
    """A contender that is warm, and how it is asked.

    Attributes:
        size: texts of a batch, of the calls or of the stream.
    """

    contender: Contender
    traffic: Traffic
    size: int

    def turn(self, number: int) -> Turn:
        """Return what the contender does in a round. What it takes as input is made here, before the clock runs."""
        first = self.traffic.warm
        if self.contender.run_texts:
            touch: Job = partial(self.contender.run_texts, first.texts[0][:1], 1)
        else:
            touch = partial(self.contender.lanes[0], self.contender.prepare(first.batches[0].select([0])))
        return Turn(touch, list(self.jobs(self.traffic.work(number))))

    def jobs(self, work: Work) -> Iterator[Job]:
        """Yield the calls that are timed."""
        case, tokenizer, contender = self.traffic.case, self.traffic.subject.tokenizer, self.contender
        for texts, batch in zip(work.texts, work.batches, strict=True):
            if contender.run_texts:
                yield partial(contender.run_texts, texts, self.size)
            elif case.batch == OFFLINE and case.is_text:
                yield partial(lambda texts: run_stream(contender, tokenizer.encode(texts), self.size), texts)
            elif case.batch == OFFLINE:
                yield partial(run_stream, contender, batch, self.size)
            elif case.is_text:
                yield partial(lambda texts: contender.lanes[0](contender.prepare(tokenizer.encode(texts))), texts)
            else:
                yield partial(contender.lanes[0], contender.prepare(batch))


def asked(contender: Contender, traffic: Traffic) -> Asked:
    """Warm a contender up for a case, and choose the size of its batches where that is free."""
    if traffic.case.batch != OFFLINE:
        return _warm(Asked(contender, traffic, traffic.case.batch))
    choices = [_warm(Asked(contender, traffic, size)) for size in STREAM_BATCHES]
    return min(choices, key=lambda choice: _seconds(list(choice.jobs(traffic.warm))))


def run_stream(contender: Contender, batch: TokenBatch, size: int) -> None:
    """Answer a stream as a bulk job does: sorted by length, in batches, on whichever lane is free."""
    parts = list(sorted_batches(batch, size))
    if len(contender.lanes) == 1:
        for part in parts:
            contender.lanes[0](contender.prepare(part))
        return
    free: SimpleQueue[Run] = SimpleQueue()
    for lane in contender.lanes:
        free.put(lane)

    def run(part: TokenBatch) -> None:
        lane = free.get()
        try:
            lane(contender.prepare(part))
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(contender.lanes)) as pool:
        list(pool.map(run, parts))


def sorted_batches(batch: TokenBatch, size: int) -> Iterator[TokenBatch]:
    """Yield the sequences in batches of like lengths, the longest first, so that no lane ends with a long one."""
    order = np.argsort(-batch.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield batch.select(order[start : start + size])


def _warm(ask: Asked) -> Asked:
    """Run some calls, and then each shape that comes again: what a service has seen that has run for a while."""
    contender, traffic = ask.contender, ask.traffic
    until_s = time.monotonic() + traffic.effort.case_s * _WARM_UP_SHARE
    for number, job in enumerate(list(ask.jobs(traffic.warm)) * _WARM_UPS):
        if number and (number >= _WARM_UPS or time.monotonic() > until_s):
            break
        job()
    if contender.run_texts:
        return ask
    seen: set[Hashable] = {None}
    for number in range(traffic.effort.rounds):
        for batch in _batches(ask, traffic.work(number)):
            if time.monotonic() > until_s:
                return ask
            if contender.shape(batch) not in seen:
                seen.add(contender.shape(batch))
                for lane in contender.lanes:
                    lane(contender.prepare(batch))
    return ask


def _batches(ask: Asked, work: Work) -> Iterator[TokenBatch]:
    for batch in work.batches:
        yield from sorted_batches(batch, ask.size)


def _seconds(jobs: Sequence[Job]) -> float:
    """Return how long some calls take."""
    started_s = time.perf_counter()
    for job in jobs:
        job()
    return time.perf_counter() - started_s
