"""How fast several models answer on this machine, side by side. Knows callables from inputs, not engines.

Machines are noisy, shared and throttled, so runners take turns on the same inputs within short rounds, and one
runner is compared with another by the median of their ratios per round, never by the ratio of two separate
measurements.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from octavo.errors import InputError
from octavo.progress import Progress, Silent
from octavo.types import Input, Interval

Runner = Callable[[Sequence[Input]], object]
Clock = Callable[[], int]  # nanoseconds

BATCH = 32  # the batch that `per_query_batch32` is named after
_SINGLES = 16  # inputs that are asked one by one in a round
_FEWEST_ROUNDS = 3  # run whatever the budget, so that there is something to take a median of
_HISTOGRAM_BINS = 40


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from text to answer, tokenization included.

    Attributes:
        batch1_p50: median of a single query.
        batch1_p99: 99th percentile of a single query.
        per_query_batch32: per query in batches of 32; the median over batches.
    """

    batch1_p50: float
    batch1_p99: float
    per_query_batch32: float


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """What was measured of one runner.

    Attributes:
        latency: the three numbers that are quoted.
        samples: single queries that were timed.
        rounds_batch1_ms: median of the single queries of each round.
        rounds_batch32_ms: per query in the batch of each round.
        edges_ms: edges of the histogram bins, shared by all runners of one measurement.
        counts: single queries per bin.
        rounds_core1_ms: milliseconds of a core, all threads together, per single query of each round.
        rounds_core32_ms: the same per query in the batch of each round.
    """

    latency: Latency
    samples: int
    rounds_batch1_ms: tuple[float, ...]
    rounds_batch32_ms: tuple[float, ...]
    edges_ms: tuple[float, ...]
    counts: tuple[int, ...]
    rounds_core1_ms: tuple[float, ...]
    rounds_core32_ms: tuple[float, ...]


@dataclass(slots=True)
class _Timings:
    """Raw timings of one runner, growing by one row per round."""

    singles_ms: list[list[float]] = field(default_factory=list)
    per_query_ms: list[float] = field(default_factory=list)
    core1_ms: list[float] = field(default_factory=list)
    core32_ms: list[float] = field(default_factory=list)


def measure(
    runners: Mapping[str, Runner],
    inputs: Sequence[Input],
    *,
    rounds: int = 30,
    warm_up_rounds: int = 2,
    budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
    core_clock: Clock = time.process_time_ns,
) -> dict[str, LatencySummary]:
    """Time every runner on the same inputs, in turns.

    A round asks each runner 16 single inputs and one batch of 32; the order of the runners rotates from round
    to round. No round is begun that would overrun `budget_s`, but three are always run.

    Args:
        runners: name → text in, answer out.
        inputs: what users ask; drawn without replacement until all were used.
        rounds: timed rounds.
        warm_up_rounds: rounds before them that are run alike and thrown away.
        budget_s: seconds for the whole measurement.
        seed: of the order of the inputs.
        progress: told about each round.
        clock: nanoseconds, monotonic.
        core_clock: nanoseconds that cores worked for this process, in all its threads.

    Raises:
        InputError: no runners, no inputs or no rounds.
    """
    if not runners or not inputs or rounds < 1:
        raise InputError(f"Nothing to measure: {len(runners)} runners, {len(inputs)} inputs, {rounds} rounds.")
    timings = {name: _Timings() for name in runners}
    draws = _Draws(inputs, seed)
    started_ns = clock()
    with (progress or Silent()).step("Measuring latency", warm_up_rounds + rounds) as step:
        for number in range(warm_up_rounds + rounds):
            round_started_ns = clock()
            _run_round(runners, draws.take(_SINGLES), draws.take(BATCH), number, timings, (clock, core_clock))
            if number < warm_up_rounds:
                timings = {name: _Timings() for name in runners}
            step.advance(1)
            now_ns = clock()
            spent_s, last_s = (now_ns - started_ns) / 1e9, (now_ns - round_started_ns) / 1e9
            if number + 1 - warm_up_rounds >= _FEWEST_ROUNDS and spent_s + last_s > budget_s:
                step.advance(warm_up_rounds + rounds - number - 1, "time is up")
                break
    return _summaries(timings)


def speedup(baseline: LatencySummary, engine: LatencySummary) -> Interval:
    """How many times faster the engine is per query in batches of 32; see `median_interval`."""
    return _speedup(baseline.rounds_batch32_ms, engine.rounds_batch32_ms)


def speedup_batch1(baseline: LatencySummary, engine: LatencySummary) -> Interval:
    """How many times faster the engine is on single queries; see `median_interval`."""
    return _speedup(baseline.rounds_batch1_ms, engine.rounds_batch1_ms)


def core_saved(baseline: LatencySummary, engine: LatencySummary) -> tuple[Interval, Interval]:
    """Return the share of a baseline's core time that the engine saves, alone and in batches; see `median_interval`."""
    shares = (
        [1 - ours / theirs for theirs, ours in zip(theirs, ours, strict=True)]
        for theirs, ours in (
            (baseline.rounds_core1_ms, engine.rounds_core1_ms),
            (baseline.rounds_core32_ms, engine.rounds_core32_ms),
        )
    )
    alone, batched = map(median_interval, shares)
    return alone, batched


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with the order statistics that hold it at 95% or more; min and max below six values.

    Distribution-free: the number of values below the true median is binomial (n, 1/2).
    """
    ordered = sorted(values)
    tail, rank = 0.5 ** len(ordered), 0
    while tail <= 0.025:
        rank += 1
        tail += math.comb(len(ordered), rank) * 0.5 ** len(ordered)
    # `rank` is now the smallest number of values below with more than 2.5% in its tail.
    outermost = max(rank - 1, 0)
    return Interval(float(np.median(ordered)), ordered[outermost], ordered[-1 - outermost])


class _Draws:
    """Hands out inputs in a shuffled order, and starts over when all were used."""

    def __init__(self, inputs: Sequence[Input], seed: int) -> None:
        self._inputs = inputs
        self._order = np.random.default_rng(seed).permutation(len(inputs))
        self._next = 0

    def take(self, count: int) -> list[Input]:
        places = (self._next + np.arange(count)) % len(self._order)
        self._next += count
        return [self._inputs[int(row)] for row in self._order[places]]


def _run_round(
    runners: Mapping[str, Runner],
    singles: Sequence[Input],
    batch: Sequence[Input],
    number: int,
    timings: Mapping[str, _Timings],
    clocks: tuple[Clock, Clock],
) -> None:
    names = list(runners)
    first = number % len(names)
    for name in names[first:] + names[:first]:
        run = runners[name]
        run(singles[:1])  # not timed: the runner before left other weights in the caches
        alone = [_timed_ms(run, [one], clocks) for one in singles]
        together_ms, core_ms = _timed_ms(run, batch, clocks)
        timings[name].singles_ms.append([taken_ms for taken_ms, _ in alone])
        timings[name].per_query_ms.append(together_ms / len(batch))
        timings[name].core1_ms.append(sum(busy_ms for _, busy_ms in alone) / len(alone))
        timings[name].core32_ms.append(core_ms / len(batch))


def _timed_ms(run: Runner, inputs: Sequence[Input], clocks: tuple[Clock, Clock]) -> tuple[float, float]:
    """Return the milliseconds that a call took, and those that cores worked for it."""
    clock, core_clock = clocks
    core_ns, started_ns = core_clock(), clock()
    run(inputs)
    ended_ns = clock()
    return max(ended_ns - started_ns, 1) / 1e6, max(core_clock() - core_ns, 1) / 1e6


def _summaries(timings: Mapping[str, _Timings]) -> dict[str, LatencySummary]:
    singles_ms = {name: np.array(t.singles_ms) for name, t in timings.items()}  # (rounds, singles) each
    edges_ms = _shared_edges(np.concatenate([ms.ravel() for ms in singles_ms.values()]))
    return {
        name: LatencySummary(
            latency=Latency(
                batch1_p50=float(np.median(ms)),
                batch1_p99=float(np.quantile(ms, 0.99)),
                per_query_batch32=float(np.median(timings[name].per_query_ms)),
            ),
            samples=ms.size,
            rounds_batch1_ms=tuple(np.median(ms, axis=1).tolist()),
            rounds_batch32_ms=tuple(timings[name].per_query_ms),
            edges_ms=tuple(edges_ms.tolist()),
            counts=tuple(np.histogram(ms, edges_ms)[0].tolist()),
            rounds_core1_ms=tuple(timings[name].core1_ms),
            rounds_core32_ms=tuple(timings[name].core32_ms),
        )
        for name, ms in singles_ms.items()
    }


def _shared_edges(samples_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = float(samples_ms.min()), float(samples_ms.max())
    return np.geomspace(low, max(high, low * 1.01), _HISTOGRAM_BINS + 1)


def _speedup(baseline_ms: Sequence[float], engine_ms: Sequence[float]) -> Interval:
    if len(baseline_ms) != len(engine_ms) or not engine_ms:
        raise InputError("A speed-up compares two runners of the same measurement, round by round.")
    return median_interval([slow / fast for slow, fast in zip(baseline_ms, engine_ms, strict=True)])
