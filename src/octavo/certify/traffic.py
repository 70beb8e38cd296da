"""What traffic costs: from timed calls to seconds of a core per query, cores and money. Knows callables, not engines.

Every runner answers the same queries of the trace in the same batches, in turns. How long a batch takes is then a plain
function of its sequences and tokens, fitted to those calls. A queue in front of so many cores is simulated with it,
open-loop: queries come when the trace says, whether or not the ones before were answered. Only the calls are measured;
what is simulated is said to be so.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from octavo.certify.latency import Clock, median_interval
from octavo.errors import InputError
from octavo.progress import Progress, Silent
from octavo.types import Input, IntArray, Interval

Runner = Callable[[Sequence[Input]], object]
_Seconds = npt.NDArray[np.float64]

ALONE, BATCHED = 1, 32  # queries a call that figures are quoted for
SIZES = (1, 2, 4, 8, 16, 32)
QUERIES = 100_000_000  # that costs are quoted for
_SINGLES = 8  # calls of one query in a round
_FEWEST_ROUNDS, _WARM_UP_ROUNDS = 3, 2
_MOST_CORES = 4096
_PERCENTILE = 99
_MOST_BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries of a trace.

    Attributes:
        times_s: when each came, ascending, (queries,).
        inputs: what the model reads of each, one sequence or more.
        tokens: of all its sequences, (queries,).
    """

    times_s: _Seconds
    inputs: Sequence[Sequence[Input]]
    tokens: IntArray

    @property
    def sequences(self) -> IntArray:
        """Of each query, (queries,)."""
        return np.array([len(one) for one in self.inputs], np.int64)

    @property
    def qps(self) -> float:
        """Queries per second."""
        return (len(self.inputs) - 1) / float(self.times_s[-1])


@dataclass(frozen=True, slots=True)
class Call:
    """One timed call: its round, and what was in it."""

    round: int
    queries: int
    sequences: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """How long a core takes for a batch: fixed_s + per_sequence_s × sequences + per_token_s × tokens.

    `error` is the median of |fitted - measured| / measured over the calls.
    """

    fixed_s: float
    per_sequence_s: float
    per_token_s: float
    error: float

    def of(self, sequences: float, tokens: float) -> float:
        """Return the seconds for a batch."""
        return self.fixed_s + self.per_sequence_s * sequences + self.per_token_s * tokens


@dataclass(frozen=True, slots=True)
class Simulated:
    """A queue in front of some cores, simulated.

    Attributes:
        cores: that worked.
        p50_s: median from arrival to answer.
        p99_s: 99th percentile.
        busy_s: seconds of a core for each query.
        utilisation: share of the time that cores worked.
    """

    cores: int
    p50_s: float
    p99_s: float
    busy_s: float
    utilisation: float


def timed_calls(
    runners: Mapping[str, Runner],
    queries: Queries,
    *,
    budget_s: float,
    rounds: int = 60,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, list[Call]]:
    """Time every runner on the same queries, in turns: eight alone, then batches of 2 to 32, round by round.

    Queries are taken in the order of the trace. No round is begun that would overrun the budget, but three are timed
    whatever it is; two rounds of warm-up come first.

    Args:
        runners: name → inputs in, answers out.
        queries: of the trace; taken from the start again where it ends.
        budget_s: seconds for all of it.
        rounds: timed ones, at most.
        progress: told about each round.
        clock: nanoseconds, monotonic.

    Raises:
        InputError: no runners.
    """
    if not runners:
        raise InputError("There is nothing to measure: no engine runs here.")
    calls: dict[str, list[Call]] = {name: [] for name in runners}
    batches = _batches(len(queries.inputs))
    started_ns = clock()
    with (progress or Silent()).step("replay the trace", _WARM_UP_ROUNDS + rounds) as step:
        for number in range(-_WARM_UP_ROUNDS, rounds):
            round_ns = clock()
            made = _round(runners, queries, next(batches), number, clock)
            if number >= 0:
                for name, some in made.items():
                    calls[name] += some
            step.advance()
            now_ns = clock()
            if number + 1 >= _FEWEST_ROUNDS and (2 * now_ns - started_ns - round_ns) / 1e9 > budget_s:
                step.advance(rounds - number - 1, "time is up")
                break
    return calls


def seconds_per_query(calls: Sequence[Call], queries: int) -> list[float]:
    """Return the seconds per query of each round, of calls of so many queries."""
    rounds: dict[int, list[Call]] = {}
    for call in calls:
        if call.queries == queries:
            rounds.setdefault(call.round, []).append(call)
    return [sum(one.seconds for one in some) / sum(one.queries for one in some) for some in rounds.values()]


def share_saved(baseline: Sequence[Call], engine: Sequence[Call], queries: int) -> Interval:
    """Return the share of a baseline's time that the engine saves: the median over rounds of 1 - ratio."""
    pairs = zip(seconds_per_query(baseline, queries), seconds_per_query(engine, queries), strict=True)
    return median_interval([1 - ours / theirs for theirs, ours in pairs])


def fitted(calls: Sequence[Call]) -> ServiceTime:
    """Fit the time of a batch to calls by least squares of relative errors; no part of it is below 0.

    Raises:
        InputError: no calls.
    """
    if not calls:
        raise InputError("A service time is fitted to calls, and there are none.")
    terms = np.array([[1, call.sequences, call.tokens] for call in calls], np.float64)  # (calls, 3)
    seconds = np.array([call.seconds for call in calls])
    best: tuple[float, _Seconds] | None = None
    for count in (3, 2, 1):
        for chosen in combinations(range(3), count):
            found = np.linalg.lstsq(terms[:, chosen] / seconds[:, None], np.ones(len(calls)), rcond=None)[0]
            if (found < 0).any():
                continue
            parts = np.zeros(3)
            parts[list(chosen)] = found
            squares = float(np.square(terms @ parts / seconds - 1).sum())
            if best is None or squares < best[0]:
                best = squares, parts
    assert best is not None  # a single positive term always fits positive times
    error = float(np.median(np.abs(terms @ best[1] / seconds - 1)))
    fixed_s, per_sequence_s, per_token_s = best[1].tolist()
    return ServiceTime(fixed_s, per_sequence_s, per_token_s, error)


def simulate(queries: Queries, service: ServiceTime, cores: int, max_batch_tokens: int) -> Simulated:
    """Simulate a queue, first come first served, in front of cores that each take what waits, up to a token budget."""
    times, tokens, sequences = queries.times_s.tolist(), queries.tokens.tolist(), queries.sequences.tolist()
    free = [0.0] * cores
    waited = np.empty(len(times))
    busy_s, first = 0.0, 0
    while first < len(times):
        start = max(heapq.heappop(free), times[first])
        last, some_tokens, some_sequences = first, 0, 0
        while last < len(times) and times[last] <= start:
            if last > first and some_tokens + tokens[last] > max_batch_tokens:
                break
            some_tokens, some_sequences = some_tokens + tokens[last], some_sequences + sequences[last]
            last += 1
        took = service.of(some_sequences, some_tokens)
        waited[first:last] = start + took - queries.times_s[first:last]
        heapq.heappush(free, start + took)
        busy_s += took
        first = last
    p50_s, p99_s = np.percentile(waited, [50, _PERCENTILE]).tolist()
    span_s = max(max(free), times[-1])
    return Simulated(cores, p50_s, p99_s, busy_s / len(times), busy_s / (cores * span_s) if span_s else 0.0)


def cores_needed(queries: Queries, service: ServiceTime, bound_s: float, max_batch_tokens: int) -> Simulated | None:
    """Return the simulation with the fewest cores whose 99th percentile is within a bound; None where none is.

    They also have to rest for a tenth of the time: a trace is too short to show how a queue grows that does not.
    """

    def within(cores: int) -> Simulated | None:
        found = simulate(queries, service, cores, max_batch_tokens)
        return found if found.p99_s <= bound_s and found.utilisation <= _MOST_BUSY else None

    if within(_MOST_CORES) is None:
        return None
    most = 1
    while (found := within(most)) is None:
        most *= 2
    least = most // 2  # too few, or none
    while most - least > 1:
        middle = (least + most) // 2
        better = within(middle)
        least, most, found = (least, middle, better) if better else (middle, most, found)
    return found


def core_hours(seconds_per_query: float) -> float:
    """Return the hours of a core for 100 million queries."""
    return seconds_per_query * QUERIES / 3600


def rescaled(times_s: _Seconds, qps: float) -> _Seconds:
    """Return times of arrival at another rate, with the same pattern: bursts stay bursts."""
    native = (len(times_s) - 1) / float(times_s[-1])
    return times_s * (native / qps)


def poisson(queries: int, qps: float, seed: int = 0) -> _Seconds:
    """Return times of arrival for a trace that has none: independent of each other."""
    times_s = np.cumsum(np.random.default_rng(seed).exponential(1 / qps, queries))
    times_s = np.asarray(times_s - times_s[0], np.float64)
    return rescaled(times_s, qps) if queries > 1 else times_s  # chance alone would make the rate another one


def _batches(queries: int) -> Iterator[list[list[int]]]:
    """Yield the numbers of the queries in each call of a round."""
    at = 0
    while True:
        made = []
        for size in (*[ALONE] * _SINGLES, *SIZES[1:]):
            made.append([(at + place) % queries for place in range(size)])
            at += size
        yield made


def _round(
    runners: Mapping[str, Runner], queries: Queries, batches: Sequence[Sequence[int]], number: int, clock: Clock
) -> dict[str, list[Call]]:
    names = list(runners)
    turn = number % len(names)
    calls: dict[str, list[Call]] = {}
    for name in names[turn:] + names[:turn]:
        run = runners[name]
        run(queries.inputs[batches[0][0]])  # not timed: the runner before left other weights in the caches
        calls[name] = [_call(run, queries, batch, number, clock) for batch in batches]
    return calls


def _call(run: Runner, queries: Queries, batch: Sequence[int], number: int, clock: Clock) -> Call:
    inputs = [one for place in batch for one in queries.inputs[place]]
    started_ns = clock()
    run(inputs)
    seconds = max(clock() - started_ns, 1) / 1e9
    return Call(number, len(batch), len(inputs), int(queries.tokens[list(batch)].sum()), seconds)
