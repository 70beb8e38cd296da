import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import InputError
from octavo.serve.trial import Action, Evidence, Side, Thresholds, check_percent, decide, p99_ms, takes_turn

THRESHOLDS = Thresholds()


def _evidence(requests=2000, *, errors=0, agreement=0.99, drift=0.01, old_ms=5.0, new_ms=5.0):
    return Evidence(
        old=Side(requests, 0, [old_ms] * min(requests, 1000)),
        new=Side(requests, errors, [new_ms] * min(requests - errors, 1000)),
        compared=requests,
        agreement=agreement * requests,
        drift=drift * requests,
    )


def test_a_release_as_good_as_the_old_one_is_promoted():
    decision = decide(_evidence(), THRESHOLDS)
    assert decision.action is Action.PROMOTE
    assert len(decision.checks) == 4
    assert {check.state for check in decision.checks} == {"good"}


@pytest.mark.parametrize(
    ("worse", "name", "words"),
    [
        ({"errors": 100}, "error rate", "5.00% of its requests failed"),
        ({"agreement": 0.8}, "disagreement", "20.00% of its answers differ"),
        ({"drift": 0.2}, "drift", "20.00% is how far its outputs moved"),
        ({"new_ms": 7.0}, "p99 ratio", "7.00 ms to 5.00 ms, 1.40 times"),
    ],
)
def test_what_is_worse_for_sure_is_dropped_with_the_reason(worse, name, words):
    decision = decide(_evidence(**worse), THRESHOLDS)
    assert decision.action is Action.ROLLBACK
    assert [check.name for check in decision.checks if check.state == "bad"] == [name]
    (reason,) = decision.reasons
    assert words in reason
    # It is dropped as soon as that is sure, and not only after the least number of requests.
    assert decide(_evidence(200, **(worse | {"errors": worse.get("errors", 0) // 5})), THRESHOLDS).action is (
        Action.ROLLBACK
    )


def test_one_bad_request_settles_nothing():
    assert decide(_evidence(1, errors=1, agreement=0, drift=1), THRESHOLDS).action is Action.WAIT
    assert decide(_evidence(600, errors=1), THRESHOLDS).action is Action.WAIT


def test_nothing_is_promoted_early():
    decision = decide(_evidence(499, agreement=1, drift=0), THRESHOLDS)
    assert decision.action is Action.WAIT
    assert decision.reasons == ["499 of at least 500 requests"]


def test_what_cannot_be_settled_is_dropped_in_the_end():
    middling = {"agreement": 0.9501}
    decision = decide(_evidence(19_999, **middling), THRESHOLDS)
    assert decision.action is Action.WAIT
    assert "not settled: 4.99% of its answers differ" in decision.reasons[0]
    decision = decide(_evidence(20_000, **middling), THRESHOLDS)
    assert decision.action is Action.ROLLBACK
    assert "not settled in 20,000 requests" in decision.reasons[0]


def test_without_the_old_releases_latencies_nothing_is_promoted():
    evidence = _evidence()
    evidence.old = Side()
    assert decide(evidence, THRESHOLDS).action is Action.WAIT


def test_no_errors_at_all_can_be_asked_for():
    strict = Thresholds(max_error_rate=0)
    assert decide(_evidence(), strict).action is Action.PROMOTE
    assert decide(_evidence(errors=1), strict).action is Action.ROLLBACK


_NUMBERS = st.fixed_dictionaries(
    {
        "requests": st.integers(1, 30_000),
        "agreement": st.floats(0, 1),
        "drift": st.floats(0, 1),
        "new_ms": st.floats(0.01, 100),
    }
)


@given(_NUMBERS, st.floats(0, 1), st.floats(0, 1))
def test_more_errors_never_help(numbers, first, second):
    fewer, more = sorted(round(share * numbers["requests"]) for share in (first, second))
    better, worse = (decide(_evidence(errors=errors, **numbers), THRESHOLDS).action for errors in (fewer, more))
    order = [Action.ROLLBACK, Action.WAIT, Action.PROMOTE]
    # More errors also leave fewer latencies, which may leave the p99 open.
    if numbers["requests"] - more >= 1000:
        assert order.index(worse) <= order.index(better)


@given(_NUMBERS, st.integers(0, 30_000))
def test_whatever_was_seen_a_decision_has_reasons(numbers, errors):
    evidence = _evidence(errors=min(errors, numbers["requests"]), **numbers)
    decision = decide(evidence, THRESHOLDS)
    assert decision.reasons
    if decision.action is Action.PROMOTE:
        assert evidence.new.requests >= THRESHOLDS.min_requests
        assert all(check.state == "good" for check in decision.checks)
        assert all(check.value <= check.limit for check in decision.checks)
    if evidence.new.requests >= THRESHOLDS.max_requests:
        assert decision.action is not Action.WAIT


@given(st.integers(0, 5000), st.floats(0.5, 100), st.integers(0, 10**9))
def test_a_share_of_the_requests_is_evenly_spread(count, percent, start):
    taken = sum(takes_turn(number, percent) for number in range(start, start + count))
    assert taken == pytest.approx(count * percent / 100, abs=1.01)


def test_a_canary_of_100_percent_takes_all():
    assert all(takes_turn(number, 100) for number in range(100))


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan")])
def test_a_share_is_more_than_none_and_at_most_all(percent):
    with pytest.raises(InputError, match="percent"):
        check_percent(percent)


@given(st.integers(0, 5000), st.integers(0, 2**32))
def test_a_reservoir_is_bounded_and_fair(count, seed):
    side, rng = Side(), random.Random(seed)
    for number in range(count):
        side.add(float(number), rng)
    assert side.requests == count
    assert len(side.latencies_ms) == min(count, 2048)
    assert len(set(side.latencies_ms)) == len(side.latencies_ms)
    if count == 5000:  # early and late ones alike
        assert sum(side.latencies_ms) / 2048 == pytest.approx(2500, rel=0.15)


def test_failures_have_no_latency():
    side, rng = Side(), random.Random(0)
    side.add(None, rng)
    side.add(3.0, rng)
    assert (side.requests, side.errors, side.latencies_ms) == (2, 1, [3.0])


def test_the_99th_percentile():
    assert p99_ms([]) is None
    assert p99_ms([3.0]) == 3.0
    assert p99_ms(range(1, 101)) == 99


@pytest.mark.parametrize(
    "unfit",
    [
        {"min_requests": 0},
        {"min_requests": 10, "max_requests": 9},
        {"max_error_rate": 1.1},
        {"min_agreement": -0.1},
        {"max_drift": float("nan")},
        {"max_p99_ratio": 0},
    ],
)
def test_thresholds_that_cannot_be_meant_are_refused(unfit):
    with pytest.raises(InputError, match=next(iter(unfit))):
        Thresholds(**unfit)


def test_evidence_is_json():
    evidence = _evidence(3)
    assert msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence) == evidence
    assert Side().latencies_ms is not Side().latencies_ms
