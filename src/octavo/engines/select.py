"""Choosing an engine by measurement: all contenders run the same batches in turns, and a pure function decides.

Knows token batches, not texts: tokenizing costs every engine the same. Does not open engines or read releases, and does
not ask whether the fastest one may serve.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from octavo.engines.base import Engine
from octavo.engines.guard import Layout
from octavo.engines.open import Backend, gpu_backends
from octavo.engines.plan import Measured, Spread
from octavo.errors import EngineError, OctavoError
from octavo.progress import Progress, Silent, Step
from octavo.text.batch import TokenBatch

Clock = Callable[[], int]  # nanoseconds

# Engines whose times differ by less are equally fast: noise decides nothing, and then what is certified stays.
TIE = 1.05

_QUERIES_A_ROUND = 16  # at least, of each batch size
_FEWEST_ROUNDS = 3  # timed whatever the budget
_HOPELESS = 3.0  # times slower than the fastest: three rounds are enough to know
_WARM_UP_SHARE = 1 / 3  # of the budget
_CPU = (Backend.NATIVE, Backend.OPENVINO, Backend.ONNXRUNTIME)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that might run a release.

    Attributes:
        backend: of the engine.
        layout: how it pads batches; None where it pads nothing.
        precision: `int8` or `fp32`.
        is_reference: it runs the FP32 reference, is there to compare with, and cannot be chosen.
    """

    backend: Backend
    layout: Layout | None = Layout.BUCKETED
    precision: str = "int8"
    is_reference: bool = False


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine, and the traffic as the tokens that it reads."""

    engine: Engine
    traffic: TokenBatch


@dataclass(frozen=True, slots=True)
class Measurement:
    """How fast a candidate was: milliseconds per query of each round, by batch size; or why it cannot run."""

    candidate: Candidate
    engine_id: str = ""
    rounds_ms: Mapping[int, Sequence[float]] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine to take.

    Attributes:
        measurement: of that engine.
        why: in a sentence.
        int8_pays: whether it is faster than the FP32 reference; None without one.
    """

    measurement: Measurement
    why: str
    int8_pays: bool | None


def candidates(precision: str, packages: Mapping[str, str], only: Backend | None = None) -> list[Candidate]:
    """Return the engines that might run a release of this precision, whether they can or not.

    Args:
        precision: of the release.
        packages: that are installed, with their versions: a GPU's engines are tried where theirs is.
        only: the one backend that is asked for, installed or not.
    """
    found = [Candidate(Backend.NATIVE, None, precision)] if precision == "int8" else []
    found += [Candidate(Backend.OPENVINO, layout, precision) for layout in Layout]
    gpu = gpu_backends(packages) if only is None else [only]
    known = [Backend.ONNXRUNTIME, *(backend for backend in gpu if backend not in _CPU)]
    found += [Candidate(backend, Layout.BUCKETED, precision) for backend in known]
    return [one for one in found if only in (None, one.backend)]


def measure(
    contenders: Mapping[Candidate, Contender],
    batch_sizes: Sequence[int],
    *,
    budget_s: float,
    rounds: int = 60,
    warm_up_rounds: int = 40,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> list[Measurement]:
    """Time every contender on batches drawn from the traffic, in turns.

    Rounds of warm-up come first, for at most a third of the budget. They are other draws, so that an engine meets as
    many new shapes in the timed rounds as in service. No round is begun that would overrun the budget, but three are
    timed at least; after those, what is three times slower than the fastest rests, so that the others get the time. A
    contender that fails is left out.

    Args:
        contenders: candidate → engine and traffic; all traffic has the same queries in the same order.
        batch_sizes: queries per call, each measured on its own.
        budget_s: seconds for the whole measurement.
        rounds: timed ones, at most.
        warm_up_rounds: at most.
        seed: of the draws.
        progress: told about each round.
        clock: nanoseconds, monotonic.

    Raises:
        EngineError: no contenders, no queries or no batch sizes.
    """
    queries = min((len(one.traffic) for one in contenders.values()), default=0)
    if not queries or not batch_sizes:
        raise EngineError(f"Nothing to measure: {len(contenders)} engines, {queries} queries, batches {batch_sizes}.")
    turns = _Turns(contenders, batch_sizes, _draws(queries, seed), clock, clock() / 1e9)
    progress = progress or Silent()
    with progress.step("warm up engines", warm_up_rounds) as bar:
        turns.take(warm_up_rounds, 1, budget_s * _WARM_UP_SHARE, bar)
    with progress.step("measure engines", rounds) as bar:
        timed = turns.take(rounds, _FEWEST_ROUNDS, budget_s, bar)
    return [
        Measurement(candidate, one.engine.engine_id, reason=turns.failed[candidate])
        if candidate in turns.failed
        else Measurement(candidate, one.engine.engine_id, timed[candidate])
        for candidate, one in contenders.items()
    ]


def choose(measurements: Sequence[Measurement], certified: Backend) -> Choice:
    """Decide from measurements alone: the fastest engine, unless a certified or plainer one is as fast.

    Batch sizes count alike: engines are compared by the geometric mean of their medians. Among those within `TIE` of
    the fastest, the certified backend comes first, then the default layout, then the faster one.

    Raises:
        EngineError: no engine can run the release; the reasons of all are named.
    """
    able = [one for one in measurements if not one.reason and not one.candidate.is_reference]
    if not able:
        reasons = "\n".join(f"  {_name(one.candidate)}: {one.reason}" for one in measurements if one.reason)
        raise EngineError(f"No engine can run this release here:\n{reasons}")
    fastest = min(able, key=_mean_ms)
    tied = [one for one in able if _mean_ms(one) <= TIE * _mean_ms(fastest)]
    chosen = min(tied, key=lambda one: (*_plainness(one.candidate, certified), _mean_ms(one)))
    reference = next((one for one in measurements if one.candidate.is_reference and not one.reason), None)
    pays = None if reference is None else _mean_ms(reference) > TIE * _mean_ms(chosen)
    return Choice(chosen, _why(chosen, fastest, able, certified), pays)


def measured_from(measurements: Sequence[Measurement]) -> list[Measured]:
    """Return what a plan keeps of the measurements; ratios are medians of the ratios in each round."""
    reference = next((one for one in measurements if one.candidate.is_reference and not one.reason), None)
    return [
        Measured(
            backend=one.candidate.backend,
            layout=one.candidate.layout,
            precision=one.candidate.precision,
            engine_id=one.engine_id,
            ms_per_query={size: _spread(ms) for size, ms in one.rounds_ms.items()},
            times_fp32={} if reference is None else _ratios(reference, one),
            reason=one.reason,
        )
        for one in measurements
    ]


# Milliseconds per query of each round, by batch size.
_Times = dict[int, list[float]]


@dataclass(slots=True)
class _Turns:
    """Contenders that take turns on the same draws; what failed, and why, grows on the way."""

    contenders: Mapping[Candidate, Contender]
    batch_sizes: Sequence[int]
    draws: Iterator[int]
    clock: Clock
    started_s: float
    failed: dict[Candidate, str] = field(default_factory=dict)

    def take(self, most: int, fewest: int, until_s: float, bar: Step) -> dict[Candidate, _Times]:
        """Run rounds until there are enough, or none more fits into the time since the start."""
        times: dict[Candidate, _Times] = {one: {size: [] for size in self.batch_sizes} for one in self.contenders}
        running = [one for one in self.contenders if one not in self.failed]
        for number in range(most):
            before_s = self.clock() / 1e9
            first = number % max(len(running), 1)  # the order rotates
            self._run_round(running[first:] + running[:first], times)
            bar.advance()
            now_s = self.clock() / 1e9
            running = [one for one in running if one not in self.failed]
            if number + 1 < fewest:
                continue
            running = _not_hopeless({one: times[one] for one in running})
            if now_s - self.started_s + (now_s - before_s) > until_s:
                bar.advance(most - number - 1, "time is up")
                break
        return times

    def _run_round(self, order: Sequence[Candidate], times: Mapping[Candidate, _Times]) -> None:
        aside, *_ = islice(self.draws, 1)
        drawn = {
            size: [list(islice(self.draws, size)) for _ in range(math.ceil(_QUERIES_A_ROUND / size))]
            for size in self.batch_sizes
        }
        for candidate in order:
            engine, traffic = self.contenders[candidate].engine, self.contenders[candidate].traffic
            try:
                engine.run(traffic.select([aside]))  # not timed: the engine before left other weights in the caches
                for size, batches in drawn.items():
                    took_ms = [self._timed_ms(engine, traffic.select(rows)) / size for rows in batches]
                    times[candidate][size].append(float(np.median(took_ms)))
            except OctavoError as error:
                self.failed[candidate] = str(error)

    def _timed_ms(self, engine: Engine, batch: TokenBatch) -> float:
        started_ns = self.clock()
        engine.run(batch)
        return max(self.clock() - started_ns, 1) / 1e6


def _not_hopeless(times: Mapping[Candidate, _Times]) -> list[Candidate]:
    means = {one: _mean_of(ms) for one, ms in times.items()}
    fastest = min(means.values(), default=0.0)
    return [one for one, mean in means.items() if mean <= _HOPELESS * fastest]


def _draws(count: int, seed: int) -> Iterator[int]:
    """Yield rows of the traffic without end, in a new order each time that all were drawn."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(count).tolist()


def _mean_ms(one: Measurement) -> float:
    return _mean_of(one.rounds_ms)


def _mean_of(rounds_ms: Mapping[int, Sequence[float]]) -> float:
    """Return the geometric mean, over the batch sizes, of the median milliseconds per query."""
    return math.exp(float(np.mean([math.log(np.median(ms)) for ms in rounds_ms.values()])))


def _plainness(candidate: Candidate, certified: Backend) -> tuple[bool, bool]:
    return candidate.backend is not certified, candidate.layout not in (None, Layout.BUCKETED)


def _why(chosen: Measurement, fastest: Measurement, able: Sequence[Measurement], certified: Backend) -> str:
    if len(able) == 1:
        return "It is the only engine that can run the release here."
    if chosen is not fastest:
        is_about_engines = chosen.candidate.backend is certified and fastest.candidate.backend is not certified
        what = "the certified engine" if is_about_engines else f"{_name(chosen.candidate)}, the plainer one,"
        return f"{_name(fastest.candidate)} is less than {TIE - 1:.0%} faster, so {what} stays."
    second = min((one for one in able if one is not chosen), key=_mean_ms)
    faster = _mean_ms(second) / _mean_ms(chosen)
    if faster <= TIE:
        return f"It is the fastest; {_name(second.candidate)} is less than {TIE - 1:.0%} slower."
    if faster <= 2:
        return f"It is the fastest, by {faster - 1:.0%} over {_name(second.candidate)}."
    return f"It is the fastest, {faster:.2g} times as fast as {_name(second.candidate)}."


def _ratios(reference: Measurement, one: Measurement) -> dict[int, Spread]:
    # One of them may have rested in the later rounds.
    return {
        size: _spread([slow / fast for slow, fast in zip(reference.rounds_ms[size], ms, strict=False)])
        for size, ms in one.rounds_ms.items()
    }


def _spread(values: Sequence[float]) -> Spread:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Spread(median, low, high)


def _name(candidate: Candidate) -> str:
    return " ".join(filter(None, (candidate.backend, candidate.layout)))
