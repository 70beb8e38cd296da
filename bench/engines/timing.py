"""Contenders take turns, round by round, so that whatever slows the machine down slows all of them down.

Knows jobs without arguments and a clock. Contenders are compared within rounds, never by two separate measurements.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.types import Interval

Job = Callable[[], object]
Clock = Callable[[], int]  # nanoseconds
Floats = npt.NDArray[np.float64]

FEWEST_ROUNDS = 3  # run whatever the budget, so that there is something to take a median of
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender does in one round.

    Attributes:
        touch: a small call before, not timed: the contender before left other weights in the caches.
        jobs: calls that are timed one by one.
    """

    touch: Job
    jobs: Sequence[Job]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the rounds took.

    Attributes:
        calls_ms: contender → round → milliseconds of each call; all have the same rounds.
        failed: contenders that raised an error, and which; they have no times.
    """

    calls_ms: dict[str, list[list[float]]]
    failed: dict[str, Exception]


def interleaved(
    contenders: Mapping[str, Callable[[int], Turn]],
    *,
    rounds: int,
    budget_s: float,
    settle_s: float = 0.0,
    clock: Clock = time.perf_counter_ns,
) -> Taken:
    """Run rounds in which every contender has a turn.

    The order rotates from round to round. No round is begun that would overrun `budget_s`, but three are always run.

    Args:
        contenders: name → the turn in the round of a number; making the turn is not timed.
        rounds: at most so many.
        budget_s: seconds for all rounds together.
        settle_s: wait before each turn, until the threads of the contender before have stopped spinning.
        clock: nanoseconds, monotonic.
    """
    taken = Taken({name: [] for name in contenders}, {})
    started_ns = clock()
    gc.collect()
    gc.disable()  # a collection would hit whoever has the turn
    try:
        for number in range(rounds):
            round_started_ns = clock()
            for name in _rotated(list(taken.calls_ms), number):
                time.sleep(settle_s)
                try:
                    taken.calls_ms[name].append(_turn_ms(contenders[name](number), clock))
                except Exception as error:
                    taken.failed[name] = error
                    del taken.calls_ms[name]
            now_ns = clock()
            if number + 1 >= FEWEST_ROUNDS and (2 * now_ns - round_started_ns - started_ns) / 1e9 > budget_s:
                break
    finally:
        gc.enable()
    return taken


def _rotated(names: list[str], number: int) -> list[str]:
    first = number % max(1, len(names))
    return names[first:] + names[:first]


def _turn_ms(turn: Turn, clock: Clock) -> list[float]:
    turn.touch()
    return [_timed_ms(job, clock) for job in turn.jobs]


def _timed_ms(job: Job, clock: Clock) -> float:
    started_ns = clock()
    job()
    return max(clock() - started_ns, 1) / 1e6


def median_of(values: Sequence[float] | Floats, seed: int = 0) -> Interval:
    """Return the median with its 95% percentile-bootstrap interval over rounds."""
    rounds = np.asarray(values, np.float64)
    draws = np.random.default_rng(seed).integers(0, len(rounds), (_RESAMPLES, len(rounds)))
    medians = np.median(rounds[draws], axis=1)  # (resamples,)
    low, high = np.quantile(medians, (0.025, 0.975))
    return Interval(float(np.median(rounds)), float(low), float(high))


def ratio_of(slow: Sequence[float] | Floats, fast: Sequence[float] | Floats) -> Interval:
    """Return how many times longer `slow` took, as the median over rounds of the ratio within each.

    Raises:
        ValueError: they did not run in the same rounds.
    """
    if len(slow) != len(fast):
        raise ValueError(f"{len(slow)} rounds against {len(fast)}: not of one measurement")
    return median_of(np.asarray(slow, np.float64) / np.asarray(fast, np.float64))
