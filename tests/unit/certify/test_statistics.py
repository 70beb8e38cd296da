import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.certify.decision import decide
from octavo.certify.statistics import mcnemar, paired_bootstrap
from octavo.errors import InputError
from octavo.types import Verdict

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200).map(
    lambda pairs: np.array(pairs, dtype=np.bool_)
)


def right_or_wrong(rows: int, both: int, lost: int, gained: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which `both` were answered by both, `lost` by the teacher only, `gained` by the engine only."""
    teacher, engine = np.zeros(rows), np.zeros(rows)
    teacher[: both + lost] = 1
    engine[:both] = 1
    engine[both + lost : both + lost + gained] = 1
    return teacher, engine


class TestPairedBootstrap:
    def test_reports_the_raw_values(self):
        teacher, engine = right_or_wrong(1000, both=880, lost=20, gained=10)
        result = paired_bootstrap(teacher, engine)
        assert result.rows == 1000
        assert result.teacher.value == pytest.approx(0.90)
        assert result.engine.value == pytest.approx(0.89)
        assert result.difference.value == pytest.approx(-0.01)

    def test_interval_is_that_of_the_normal_approximation_on_many_rows(self):
        teacher, engine = right_or_wrong(20_000, both=17_000, lost=600, gained=500)
        result = paired_bootstrap(teacher, engine)
        error = math.sqrt((1100 / 20_000 - 0.005**2) / 20_000)
        assert result.difference.low == pytest.approx(-0.005 - 1.96 * error, abs=2e-4)
        assert result.difference.high == pytest.approx(-0.005 + 1.96 * error, abs=2e-4)
        assert result.sd == pytest.approx(math.sqrt(1102 / 20_002), rel=1e-3)

    def test_paired_interval_is_narrower_than_the_two_apart(self):
        teacher, engine = right_or_wrong(2000, both=1500, lost=10, gained=10)
        result = paired_bootstrap(teacher, engine)
        width = result.difference.high - result.difference.low
        assert width < 0.5 * (result.teacher.high - result.teacher.low)

    def test_graded_scores_and_right_or_wrong_agree_where_they_are_the_same(self):
        rng = np.random.default_rng(1)
        teacher, engine = right_or_wrong(800, both=600, lost=30, gained=25)
        blurred_teacher = np.clip(teacher - 1e-6 * rng.random(800), 0, 1)  # hundreds of distinct pairs
        blurred_engine = np.clip(engine - 1e-6 * rng.random(800), 0, 1)
        exact = paired_bootstrap(teacher, engine, resamples=4000)
        general = paired_bootstrap(blurred_teacher, blurred_engine, resamples=4000)
        for part in ("teacher", "engine", "difference"):
            a, b = getattr(exact, part), getattr(general, part)
            assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=3e-3)

    def test_same_seed_same_interval_whatever_the_order_of_the_rows(self):
        teacher, engine = right_or_wrong(300, both=250, lost=12, gained=9)
        order = np.random.default_rng(5).permutation(300)
        assert paired_bootstrap(teacher, engine) == paired_bootstrap(teacher[order], engine[order])

    def test_chunks_do_not_change_the_draws(self, monkeypatch):
        rng = np.random.default_rng(2)
        teacher, engine = rng.random(150), rng.random(150)
        whole = paired_bootstrap(teacher, engine, resamples=501)
        monkeypatch.setattr("octavo.certify.statistics._CHUNK_VALUES", 1000)
        chunked = paired_bootstrap(teacher, engine, resamples=501)
        assert chunked.difference.low == pytest.approx(whole.difference.low, abs=0.02)
        assert chunked.rows == whole.rows

    @settings(max_examples=40, deadline=None)
    @given(answers)
    def test_interval_holds_its_value_and_never_collapses(self, pairs):
        result = paired_bootstrap(pairs[:, 0], pairs[:, 1], resamples=500)
        for interval in (result.teacher, result.engine, result.difference):
            assert interval.low <= interval.value <= interval.high
            assert interval.low < interval.high
        assert result.teacher.low >= 0
        assert result.teacher.high <= 1
        assert result.difference.low >= -1
        assert result.difference.high <= 1

    @settings(max_examples=40, deadline=None)
    @given(answers)
    def test_swapping_the_roles_mirrors_the_interval(self, pairs):
        there = paired_bootstrap(pairs[:, 0], pairs[:, 1])
        back = paired_bootstrap(pairs[:, 1], pairs[:, 0])
        step = 2.01 / (len(pairs) + 2)  # a percentile of draws may land on the neighbouring whole row
        assert there.difference.value == pytest.approx(-back.difference.value)
        assert there.difference.low == pytest.approx(-back.difference.high, abs=step)
        assert there.difference.high == pytest.approx(-back.difference.low, abs=step)
        assert there.sd == pytest.approx(back.sd)

    @pytest.mark.parametrize(
        ("teacher", "engine"),
        [
            (np.zeros(0), np.zeros(0)),
            (np.zeros(3), np.zeros(4)),
            (np.zeros((2, 2)), np.zeros((2, 2))),
            (np.array([0.5, 1.5]), np.array([0.5, 0.5])),
            (np.array([0.5, np.nan]), np.array([0.5, 0.5])),
        ],
        ids=["empty", "lengths", "matrix", "above one", "nan"],
    )
    def test_refuses_what_it_cannot_compare(self, teacher, engine):
        with pytest.raises(InputError):
            paired_bootstrap(teacher, engine)


class TestFalsePasses:
    """The engine is truly worse by exactly the margin: how often does it pass?"""

    @pytest.mark.parametrize(
        ("rows", "margin", "gained"), [(1000, 0.01, 0.01), (1500, 0.01, 0.03), (3000, 0.005, 0.002)]
    )
    def test_rate_stays_near_the_nominal_two_and_a_half_percent(self, rows, margin, gained):
        rng = np.random.default_rng(7)
        trials, passes = 1000, 0
        for trial in range(trials):
            draw = rng.random(rows)
            teacher = (draw >= gained).astype(float)  # wrong only where the engine gains
            engine = (draw < 1 - gained - margin).astype(float)
            comparison = paired_bootstrap(teacher, engine, resamples=1000, seed=trial)
            decision = decide(comparison.difference, comparison.sd, rows, margin)
            passes += decision.verdict is Verdict.PASS
        assert passes / trials <= 0.04
        assert passes > 0  # nor may the gate be so strict that a real loss of nothing could not pass either


class TestMcNemar:
    def test_counts_and_exact_p(self):
        teacher, engine = right_or_wrong(100, both=80, lost=8, gained=2)
        result = mcnemar(teacher, engine)
        assert (result.lost, result.gained) == (8, 2)
        assert result.p_value == pytest.approx(2 * (1 + 10 + 45) / 2**10)

    def test_identical_answers_are_no_evidence(self):
        assert mcnemar(np.ones(50, bool), np.ones(50, bool)).p_value == 1.0

    def test_balanced_changes_are_no_evidence(self):
        teacher, engine = right_or_wrong(100, both=80, lost=5, gained=5)
        assert mcnemar(teacher, engine).p_value == 1.0

    @pytest.mark.parametrize(("lost", "gained"), [(3, 11), (40, 70), (900, 1000)])
    def test_agrees_with_integer_arithmetic(self, lost, gained):
        teacher, engine = right_or_wrong(2500, both=100, lost=lost, gained=gained)
        total = lost + gained
        exact = 2 * sum(math.comb(total, k) for k in range(min(lost, gained) + 1)) / 2**total
        assert mcnemar(teacher, engine).p_value == pytest.approx(exact, rel=1e-9)

    def test_hundreds_of_thousands_of_changes(self):
        teacher, engine = right_or_wrong(400_000, both=0, lost=200_000, gained=199_000)
        assert mcnemar(teacher, engine).p_value == pytest.approx(0.1138, abs=2e-3)

    def test_symmetric(self):
        teacher, engine = right_or_wrong(100, both=50, lost=20, gained=7)
        there, back = mcnemar(teacher, engine), mcnemar(engine, teacher)
        assert there.p_value == back.p_value
        assert (there.lost, there.gained) == (back.gained, back.lost)
