import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from octavo.certify.decision import Decision, decide
from octavo.certify.statistics import paired_bootstrap
from octavo.errors import InputError
from octavo.types import Interval, Measure, Verdict

margins = st.floats(1e-4, 0.2)
_ORDER = [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS]


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    value = draw(st.floats(-0.3, 0.3))
    return Interval(value, value - draw(st.floats(0, 0.2)), value + draw(st.floats(0, 0.2)))


def decide_on(teacher: np.ndarray, engine: np.ndarray, margin: float) -> Decision:
    measures = [Measure("accuracy", scores.astype(float), np.ones(len(scores))) for scores in (teacher, engine)]
    comparison = paired_bootstrap(*measures)
    return decide(comparison.difference, comparison.sd, comparison.rows, margin)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.004, 0.002, Verdict.PASS),
        (0.001, 0.003, Verdict.PASS),
        (-0.006, 0.002, Verdict.INCONCLUSIVE),
        (-0.005, 0.002, Verdict.INCONCLUSIVE),
        (-0.02, -0.005, Verdict.INCONCLUSIVE),
        (-0.02, -0.006, Verdict.FAIL),
    ],
)
def test_the_gate(low, high, verdict):
    decision = decide(Interval((low + high) / 2, low, high), sd=0.1, rows=1000, margin=0.005)
    assert decision.verdict is verdict
    assert (decision.rows_needed is None) == (verdict is not Verdict.INCONCLUSIVE)


@given(intervals(), margins, margins)
def test_a_larger_margin_never_turns_the_verdict_worse(interval, one, other):
    narrow, wide = sorted((one, other))
    before = decide(interval, 0.2, 500, narrow).verdict
    after = decide(interval, 0.2, 500, wide).verdict
    assert _ORDER.index(after) >= _ORDER.index(before)


@given(intervals(), st.floats(0, 1), margins)
def test_a_decided_case_stays_decided_as_the_interval_narrows(interval, share, margin):
    before = decide(interval, 0.2, 500, margin).verdict
    assume(before is not Verdict.INCONCLUSIVE)
    narrowed = Interval(
        interval.value,
        interval.value - share * (interval.value - interval.low),
        interval.value + share * (interval.high - interval.value),
    )
    assert decide(narrowed, 0.2, 5000, margin).verdict is before


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.005, 0.02, 0.05]))
def test_a_decided_case_stays_decided_with_ten_times_the_same_rows(lost, gained, margin):
    teacher = np.repeat([1.0, 0.0, 1.0], [lost, gained, 1000])
    engine = np.repeat([0.0, 1.0, 1.0], [lost, gained, 1000])
    before = decide_on(teacher, engine, margin).verdict
    assume(before is not Verdict.INCONCLUSIVE)
    assert decide_on(np.tile(teacher, 10), np.tile(engine, 10), margin).verdict is before


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=120))
def test_a_few_identical_rows_prove_nothing(correct):
    answers = np.array(correct)
    decision = decide_on(answers, answers, margin=0.005)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.rows_needed is not None
    assert decision.rows_needed > len(answers)


def test_thousands_of_identical_rows_pass():
    answers = np.random.default_rng(0).random(3000) < 0.9
    assert decide_on(answers, answers, margin=0.005).verdict is Verdict.PASS


def test_an_engine_that_is_obviously_worse_fails():
    rng = np.random.default_rng(0)
    teacher = rng.random(2000) < 0.9
    assert decide_on(teacher, teacher & (rng.random(2000) < 0.9), margin=0.01).verdict is Verdict.FAIL


def test_swapping_a_clear_loss_is_a_pass():
    rng = np.random.default_rng(0)
    better = rng.random(2000) < 0.9
    worse = better & (rng.random(2000) < 0.9)
    assert decide_on(worse, better, margin=0.01).verdict is Verdict.PASS


def test_rows_needed_is_the_textbook_number():
    decision = decide(Interval(-0.001, -0.02, 0.02), sd=0.2, rows=500, margin=0.005)
    assert decision.rows_needed == math.ceil((1.959964 * 0.2 / 0.004) ** 2)


@pytest.mark.parametrize("low", [-0.02, -0.0051])
def test_rows_needed_are_more_than_the_rows_that_did_not_decide(low):
    decision = decide(Interval(0.0, low, 0.02), sd=0.001, rows=700, margin=0.005)
    assert decision.rows_needed == 701


def test_that_many_rows_of_the_same_kind_do_decide():
    teacher = np.repeat([1.0, 0.0, 1.0], [14, 12, 974])
    engine = np.repeat([0.0, 1.0, 1.0], [14, 12, 974])
    first = decide_on(teacher, engine, margin=0.005)
    assert first.verdict is Verdict.INCONCLUSIVE
    assert first.rows_needed is not None
    copies = math.ceil(1.1 * first.rows_needed / len(teacher))
    assert decide_on(np.tile(teacher, copies), np.tile(engine, copies), margin=0.005).verdict is Verdict.PASS


def test_no_number_of_rows_decides_on_the_margin_itself():
    decision = decide(Interval(-0.005, -0.01, 0.0), sd=0.1, rows=1000, margin=0.005)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.rows_needed is None
    assert "no number of rows" in decision.reason


def test_the_reason_is_a_sentence_in_points():
    decision = decide(Interval(-0.0007, -0.0041, 0.0028), sd=0.1, rows=4500, margin=0.005)
    assert decision.reason == (
        "The engine is 0.07 points below the teacher on 4,500 rows, 95% interval [−0.41, +0.28] points, "
        "all of it above the margin of −0.50, so the engine is not inferior."
    )


def test_the_reason_names_units_and_a_metric_that_is_not_the_first():
    decision = decide(Interval(0.001, -0.009, 0.011), 0.1, 648, 0.005, unit="query", metric="ndcg@10: asymmetric")
    assert decision.reason.startswith(
        "The engine is 0.10 points above the teacher in nDCG@10: asymmetric on 648 queries"
    )
    assert decision.reason.endswith(f"about {decision.rows_needed:,} queries like these would decide.")
    stuck = decide(Interval(-0.005, -0.01, 0.0), 0.1, 1, 0.005, unit="sentence")
    assert "on 1 sentence, " in stuck.reason
    assert "no number of sentences" in stuck.reason


@pytest.mark.parametrize("margin", [0.0, -0.01, 1.0, math.nan, math.inf])
def test_refuses_a_margin_that_is_none(margin):
    with pytest.raises(InputError, match="margin"):
        decide(Interval(0.0, -0.1, 0.1), sd=0.1, rows=10, margin=margin)


@pytest.mark.parametrize(
    ("interval", "sd", "rows"),
    [
        (Interval(0.0, -0.1, 0.1), 0.1, 0),
        (Interval(0.0, 0.1, 0.2), 0.1, 10),
        (Interval(0.0, math.nan, 0.1), 0.1, 10),
        (Interval(0.0, -0.1, 0.1), -0.1, 10),
        (Interval(0.0, -0.1, 0.1), math.nan, 10),
    ],
)
def test_refuses_what_is_no_comparison(interval, sd, rows):
    with pytest.raises(InputError):
        decide(interval, sd, rows, margin=0.01)
