import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.certify.decision import decide
from octavo.certify.statistics import mcnemar, paired_bootstrap, unit_scores
from octavo.errors import InputError
from octavo.types import Interval, Measure, Verdict


def mean_of(scores: np.ndarray) -> Measure:
    return Measure("accuracy", scores, np.ones(len(scores)))


def f1_of(true_positives: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> Measure:
    return Measure("f1", 2.0 * true_positives, (predicted + true).astype(float))


answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200).map(
    lambda pairs: np.array(pairs, dtype=np.float32)
)


def right_or_wrong(rows: int, both: int, lost: int, gained: int) -> tuple[Measure, Measure]:
    """Rows of which `both` were answered by both, `lost` by the teacher only, `gained` by the engine only."""
    teacher, engine = np.zeros(rows), np.zeros(rows)
    teacher[: both + lost] = 1
    engine[:both] = 1
    engine[both + lost : both + lost + gained] = 1
    return mean_of(teacher), mean_of(engine)


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
        blurred_teacher = mean_of(np.clip(teacher.gains - 1e-6 * rng.random(800), 0, 1))  # hundreds of distinct units
        blurred_engine = mean_of(np.clip(engine.gains - 1e-6 * rng.random(800), 0, 1))
        exact = paired_bootstrap(teacher, engine, resamples=4000)
        general = paired_bootstrap(blurred_teacher, blurred_engine, resamples=4000)
        for part in ("teacher", "engine", "difference"):
            a, b = getattr(exact, part), getattr(general, part)
            assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=3e-3)

    def test_same_seed_same_interval_whatever_the_order_of_the_rows(self):
        teacher, engine = right_or_wrong(300, both=250, lost=12, gained=9)
        order = np.random.default_rng(5).permutation(300)
        shuffled = mean_of(teacher.gains[order]), mean_of(engine.gains[order])
        assert paired_bootstrap(teacher, engine) == paired_bootstrap(*shuffled)

    def test_chunks_do_not_change_the_draws(self, monkeypatch):
        rng = np.random.default_rng(2)
        teacher, engine = mean_of(rng.random(150)), mean_of(rng.random(150))
        whole = paired_bootstrap(teacher, engine, resamples=501)
        monkeypatch.setattr("octavo.certify.statistics._CHUNK_VALUES", 1000)
        chunked = paired_bootstrap(teacher, engine, resamples=501)
        assert chunked.difference.low == pytest.approx(whole.difference.low, abs=0.02)
        assert chunked.rows == whole.rows

    @settings(max_examples=40, deadline=None)
    @given(answers)
    def test_interval_holds_its_value_and_never_collapses(self, pairs):
        result = paired_bootstrap(mean_of(pairs[:, 0]), mean_of(pairs[:, 1]), resamples=500)
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
        there = paired_bootstrap(mean_of(pairs[:, 0]), mean_of(pairs[:, 1]))
        back = paired_bootstrap(mean_of(pairs[:, 1]), mean_of(pairs[:, 0]))
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
            paired_bootstrap(mean_of(teacher), mean_of(engine))


class TestAccuraciesAreAsBefore:
    """Certificates that were written before ratios could be compared stay true to the last bit."""

    @pytest.mark.parametrize(
        ("counts", "teacher", "engine", "difference", "sd"),
        [
            (
                (1000, 880, 20, 10),
                (0.9, 0.8802395209580839, 0.9171656686626747),
                (0.89, 0.8692614770459082, 0.908183632734531),
                (-0.010000000000000009, -0.02145708582834331, 0.0014970059880239784),
                0.17842793096290444,
            ),
            (
                (3080, 2800, 12, 9),
                (0.912987012987013, 0.9026606099935107, 0.9227774172615185),
                (0.912012987012987, 0.9016872160934458, 0.9218040233614536),
                (-0.0009740259740259605, -0.004380272550291977, 0.002109020116807283),
                0.08638135835629986,
            ),
        ],
    )
    def test_bit_for_bit(self, counts, teacher, engine, difference, sd):
        result = paired_bootstrap(*right_or_wrong(*counts))
        assert result.teacher == Interval(*teacher)
        assert result.engine == Interval(*engine)
        assert result.difference == Interval(*difference)
        assert result.sd == sd


def tagged(rng: np.random.Generator, sentences: int, entities: float, lost: float) -> tuple[Measure, Measure]:
    """Sentences of which the teacher finds nine entities in ten, and the engine all but so many of those."""
    true = rng.poisson(entities, sentences)
    found = rng.binomial(true, 0.9)
    found_by_engine = found - rng.binomial(found, lost) + rng.binomial(true - found, 0.05)
    invented = rng.poisson(0.05 * entities, sentences)
    return f1_of(found, found + invented, true), f1_of(found_by_engine, found_by_engine + invented, true)


class TestRatios:
    def test_the_value_is_a_ratio_of_sums_and_not_a_mean_of_ratios(self):
        teacher = Measure("f1", np.array([2.0, 0.0]), np.array([2.0, 8.0]))
        engine = Measure("f1", np.array([2.0, 4.0]), np.array([2.0, 8.0]))
        result = paired_bootstrap(teacher, engine)
        assert (result.teacher.value, result.engine.value) == (0.2, 0.6)
        assert result.rows == 2

    def test_only_relative_weights_matter(self):
        teacher, engine = right_or_wrong(1000, both=880, lost=20, gained=10)
        doubled = [Measure("f1", 2 * m.gains, 2 * m.weights) for m in (teacher, engine)]
        assert paired_bootstrap(*doubled) == paired_bootstrap(teacher, engine)

    def test_the_interval_is_that_of_the_delta_method_on_many_units(self):
        result = paired_bootstrap(*tagged(np.random.default_rng(0), 5000, 1.5, lost=0.03))
        error = 1.96 * result.sd / math.sqrt(5000)
        assert result.difference.low == pytest.approx(result.difference.value - error, rel=0.06)
        assert result.difference.high == pytest.approx(result.difference.value + error, abs=0.06 * error)

    def test_units_without_weight_make_nothing_surer(self):
        twenty = np.full(20, 2.0)
        alone = paired_bootstrap(Measure("f1", twenty, twenty), Measure("f1", twenty, twenty))
        padded = np.concatenate([twenty, np.zeros(2000)])
        among_empty = paired_bootstrap(Measure("f1", padded, padded), Measure("f1", padded, padded))
        assert among_empty.difference.low == pytest.approx(alone.difference.low, rel=0.25)
        assert among_empty.rows == 2020

    def test_nothing_to_find_is_found_and_proves_nothing(self):
        nothing = Measure("f1", np.zeros(500), np.zeros(500))
        result = paired_bootstrap(nothing, nothing)
        assert (result.teacher.value, result.engine.value, result.difference.value) == (1.0, 1.0, 0.0)
        assert result.difference.low < -0.2

    def test_entities_where_there_are_none_cost_everything(self):
        nothing = Measure("f1", np.zeros(50), np.zeros(50))
        invented = Measure("f1", np.zeros(50), np.ones(50))
        result = paired_bootstrap(nothing, invented)
        assert (result.teacher.value, result.engine.value) == (1.0, 0.0)
        assert result.difference.low == -1.0

    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 150), st.sampled_from([0.05, 1.0, 40.0]), st.integers(0, 2**32 - 1))
    def test_interval_holds_its_value_and_never_collapses(self, sentences, entities, seed):
        result = paired_bootstrap(*tagged(np.random.default_rng(seed), sentences, entities, 0.1), resamples=300)
        for interval, floor in ((result.teacher, 0), (result.engine, 0), (result.difference, -1)):
            assert floor <= interval.low <= interval.value <= interval.high <= 1
            assert interval.low < interval.high
        assert 0 < result.sd < math.inf

    @pytest.mark.parametrize(
        ("sentences", "entities", "most"), [(300, 1.5, 0.99), (1500, 0.05, 1.0)], ids=["dense", "sparse"]
    )
    def test_intervals_cover_the_true_difference_as_often_as_they_say(self, sentences, entities, most):
        rng = np.random.default_rng(11)
        teacher, engine = tagged(rng, 1_000_000, entities, lost=0.25)
        truth, trials = engine.value - teacher.value, 300
        misses = {"low": 0, "high": 0}
        for trial in range(trials):
            gap = paired_bootstrap(*tagged(rng, sentences, entities, lost=0.25), resamples=300, seed=trial).difference
            misses["low"] += gap.low > truth
            misses["high"] += gap.high < truth
        assert misses["low"] / trials <= 0.035  # so often an engine that is worse by exactly the margin would pass
        assert 0.94 <= 1 - sum(misses.values()) / trials <= most  # wider where a few units decide

    @pytest.mark.parametrize(
        ("gains", "weights"),
        [
            ([0.5, 1.5], [1, 1]),
            ([0, -0.5], [1, 1]),
            ([0, 0], [1, -1]),
            ([0, 0], [1, math.inf]),
            ([0, 1], [1, math.nan]),
        ],
        ids=["gain above weight", "gain below zero", "weight below zero", "infinite", "nan"],
    )
    def test_refuses_gains_that_their_weights_cannot_hold(self, gains, weights):
        good, bad = Measure("f1", np.zeros(2), np.ones(2)), Measure("f1", np.array(gains), np.array(weights))
        for pair in ((bad, good), (good, bad)):
            with pytest.raises(InputError, match="Gains of 'f1' must lie between 0 and their weights"):
                paired_bootstrap(*pair)

    def test_refuses_weights_of_another_length(self):
        with pytest.raises(InputError, match=r"'f1' needs gains and weights of one length"):
            paired_bootstrap(Measure("f1", np.zeros(3), np.ones(2)), Measure("f1", np.zeros(3), np.ones(3)))


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
            comparison = paired_bootstrap(mean_of(teacher), mean_of(engine), resamples=1000, seed=trial)
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
        assert mcnemar(mean_of(np.ones(50)), mean_of(np.ones(50))).p_value == 1.0

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

    def test_a_unit_counts_by_its_own_share(self):
        teacher = Measure("f1", np.array([4.0, 2.0, 0.0, 0.0]), np.array([4.0, 6.0, 0.0, 3.0]))
        engine = Measure("f1", np.array([6.0, 1.0, 0.0, 0.0]), np.array([8.0, 3.0, 2.0, 0.0]))
        np.testing.assert_array_equal(unit_scores(teacher), [1, 1 / 3, 1, 0])
        result = mcnemar(teacher, engine)
        assert (result.lost, result.gained) == (2, 1)
