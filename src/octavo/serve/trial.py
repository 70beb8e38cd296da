"""Whether a new release goes live, out of what it did beside the old one: evidence and thresholds in, a decision out.

Pure: no clock, no thread, no release. The same caution as in a certificate: a rate is judged by the bounds of its
interval and not by its value, so that a few lucky requests promote nothing and one unlucky one rolls nothing back.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import msgspec

from octavo.errors import InputError

# Of intervals. Wide, as evidence is looked at again and again until it decides.
_Z = 3.0
_FEWEST = 20  # requests, before anything is judged
_FEWEST_LATENCIES = 100  # of each side, before p99 means anything
_MOST_LATENCIES = 2048


class Mode(StrEnum):
    """How a new release is tried."""

    CANARY = "canary"  # it answers some requests
    SHADOW = "shadow"  # it is asked copies, and nobody sees its answers


class Action(StrEnum):
    """What is to become of a trial."""

    WAIT = "wait"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What a new release has to hold.

    Attributes:
        min_requests: it is not promoted before it has answered so many.
        max_requests: it is dropped where so many have not shown that it is good enough.
        max_error_rate: share of its requests that may fail.
        min_agreement: of its answers with the old release's, as `Task.likeness` has it, in the mean over requests.
        max_drift: of its outputs from the old release's, as `Task.likeness` has it, in the mean over requests.
        max_p99_ratio: of its p99 latency to the old release's in the same time.
    """

    min_requests: int = 500
    max_requests: int = 20_000
    max_error_rate: float = 0.01
    min_agreement: float = 0.95
    max_drift: float = 0.05
    max_p99_ratio: float = 1.2

    def __post_init__(self) -> None:
        """Refuse what no release could hold, or every one would. Raises InputError."""
        if not 1 <= self.min_requests <= self.max_requests:
            raise InputError(
                f"min_requests is {self.min_requests} and max_requests {self.max_requests}: "
                "the first must be at least 1 and at most the second."
            )
        for name in ("max_error_rate", "min_agreement", "max_drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)} and must lie between 0 and 1.")
        if not self.max_p99_ratio > 0:
            raise InputError(f"max_p99_ratio is {self.max_p99_ratio} and must be above 0.")


class Side(msgspec.Struct):
    """What one of the two releases did.

    Attributes:
        requests: it was asked, those that failed too.
        errors: requests that failed.
        latencies_ms: of requests that did not; a fair sample where there are more than it holds.
    """

    requests: int = 0
    errors: int = 0
    latencies_ms: list[float] = []

    def add(self, latency_ms: float | None, rng: random.Random) -> None:
        """Count a request; None where it failed."""
        self.requests += 1
        if latency_ms is None:
            self.errors += 1
            return
        if len(self.latencies_ms) < _MOST_LATENCIES:
            self.latencies_ms.append(latency_ms)
        elif (place := rng.randrange(self.requests - self.errors)) < _MOST_LATENCIES:
            self.latencies_ms[place] = latency_ms


class Evidence(msgspec.Struct):
    """What both releases did since the trial began. Counts requests, not inputs: those of a request are no strangers.

    Attributes:
        old: the release that serves.
        new: the release that is tried.
        compared: requests that both answered.
        agreement: sum over those of the mean agreement of their inputs.
        drift: sum over those of the mean drift of their inputs.
    """

    old: Side = msgspec.field(default_factory=Side)
    new: Side = msgspec.field(default_factory=Side)
    compared: int = 0
    agreement: float = 0.0
    drift: float = 0.0

    def compare(self, agreement: float, drift: float) -> None:
        """Count a request that both answered."""
        self.compared += 1
        self.agreement += agreement
        self.drift += drift


State = Literal["good", "bad", "unsure"]


class Check(msgspec.Struct, frozen=True):
    """One threshold: what it says, what was seen (None: nothing yet), and whether that is settled."""

    name: str
    limit: float
    value: float | None
    state: State
    says: str


class Decision(msgspec.Struct, frozen=True):
    """What to do, why, and the checks that it rests on."""

    action: Action
    reasons: list[str]
    checks: list[Check]


def decide(evidence: Evidence, thresholds: Thresholds) -> Decision:
    """Return what to do: drop what is bad for sure, promote what is good for sure, and wait in between.

    A rate is good where its whole interval (Wilson's, 99.7%) holds, and bad where none of it does. Latencies have
    tails that no sample settles: a p99 is good where it holds itself, and bad where its interval cannot.
    """
    checks = _checks(evidence, thresholds)
    by_state = {state: [one.says for one in checks if one.state == state] for state in ("good", "bad", "unsure")}
    seen = evidence.new.requests
    if by_state["bad"]:
        return Decision(Action.ROLLBACK, by_state["bad"], checks)
    if seen < thresholds.min_requests:
        return Decision(Action.WAIT, [f"{seen:,} of at least {thresholds.min_requests:,} requests"], checks)
    if not by_state["unsure"]:
        return Decision(Action.PROMOTE, by_state["good"], checks)
    if seen < thresholds.max_requests:
        return Decision(Action.WAIT, [f"not settled: {one}" for one in by_state["unsure"]], checks)
    reasons = [f"not settled in {seen:,} requests: {one}" for one in by_state["unsure"]]
    return Decision(Action.ROLLBACK, reasons, checks)


def takes_turn(number: int, percent: float) -> bool:
    """Return whether request `number`, from 0, is one of `percent` in a hundred; they are evenly spread."""
    return math.floor((number + 1) * percent / 100) > math.floor(number * percent / 100)


def check_percent(percent: float) -> None:
    """Raise InputError for a share that is no part of the requests."""
    if not 0 < percent <= 100:
        raise InputError(f"{percent:g} percent of the requests: it must be above 0 and at most 100.")


def p99_ms(latencies_ms: Sequence[float]) -> float | None:
    """Return the 99th percentile; None of nothing."""
    ordered = sorted(latencies_ms)
    return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else None


def _checks(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    new, compared = evidence.new, evidence.compared
    differing = compared - evidence.agreement
    return [
        _rate("error rate", new.errors, new.requests, thresholds.max_error_rate, "of its requests failed"),
        _rate("disagreement", differing, compared, 1 - thresholds.min_agreement, "of its answers differ"),
        _rate("drift", evidence.drift, compared, thresholds.max_drift, "is how far its outputs moved"),
        _p99_ratio(evidence.old.latencies_ms, new.latencies_ms, thresholds.max_p99_ratio),
    ]


def _rate(name: str, total: float, count: int, limit: float, what: str) -> Check:
    """Judge a mean of values between 0 and 1, which should be at most `limit`."""
    if not count:
        return Check(name, limit, None, "unsure", f"{name}: nothing was seen yet")
    low, high = _wilson(total, count)
    # Even a perfect record has an upper bound above 0: a limit of 0 asks for the record itself.
    holds = high <= limit or (limit == 0 and total == 0)
    state: State = "good" if holds else "bad" if count >= _FEWEST and low > limit else "unsure"
    value = total / count
    says = f"{value:.2%} {what} (between {low:.2%} and {high:.2%}; allowed {limit:.2%}; {count:,} requests)"
    return Check(name, limit, value, state, says)


def _wilson(total: float, count: int) -> tuple[float, float]:
    """Return Wilson's interval for a rate. Values in between 0 and 1 vary less than those it is made for."""
    rate, z2 = min(max(total / count, 0.0), 1.0), _Z * _Z
    middle = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(rate * (1 - rate) / count + z2 / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _p99_ratio(old_ms: Sequence[float], new_ms: Sequence[float], limit: float) -> Check:
    """Judge how many times longer the slowest hundredth waits for the new release."""
    name = "p99 ratio"
    fewest = min(len(old_ms), len(new_ms))
    old, new = p99_ms(old_ms), p99_ms(new_ms)
    if old is None or new is None or fewest < _FEWEST_LATENCIES:
        return Check(name, limit, None, "unsure", f"{name}: {fewest:,} of {_FEWEST_LATENCIES} latencies of each")
    ratio = new / old if old else math.inf
    least = _p99_bound(new_ms, -_Z) / max(_p99_bound(old_ms, _Z), 1e-9)
    state: State = "good" if ratio <= limit else "bad" if least > limit else "unsure"
    says = f"its p99 is {new:.2f} ms to {old:.2f} ms, {ratio:.2f} times (at least {least:.2f}; allowed {limit:.2f})"
    return Check(name, limit, ratio, state, says)


def _p99_bound(latencies_ms: Sequence[float], z: float) -> float:
    """Return a bound of the 99th percentile: the order statistic so many standard deviations away."""
    ordered, count = sorted(latencies_ms), len(latencies_ms)
    place = 0.99 * count + z * math.sqrt(0.99 * 0.01 * count)
    return ordered[min(max(math.ceil(place) - 1, 0), count - 1)]
