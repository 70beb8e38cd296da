import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engines.guard import Layout
from octavo.engines.open import Backend
from octavo.engines.select import TIE, Candidate, Contender, Measurement, candidates, choose, measure, measured_from
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch

BUCKETED = Candidate(Backend.OPENVINO, Layout.BUCKETED)
PACKED = Candidate(Backend.OPENVINO, Layout.PACKED)
PADDED = Candidate(Backend.OPENVINO, Layout.PADDED)
ORT = Candidate(Backend.ONNXRUNTIME)
NATIVE = Candidate(Backend.NATIVE, None)
FP32 = Candidate(Backend.OPENVINO, Layout.BUCKETED, "fp32", is_reference=True)
TRAFFIC = TokenBatch.from_sequences([[5] * length for length in (3, 4, 5, 6, 7, 9, 12, 20)])


class FakeEngine:
    """Passes time on a clock instead of multiplying matrices."""

    def __init__(self, clock, ms_per_query, *, overhead_ms=0.0, fails_at=math.inf, engine_id="fake-1/int8"):
        self.clock, self.ms, self.overhead_ms, self.fails_at = clock, ms_per_query, overhead_ms, fails_at
        self.engine_id = engine_id
        self.calls = []

    def run(self, batch):
        self.calls.append(batch.lengths.tolist())
        if len(self.calls) > self.fails_at:
            raise EngineError("broke down")
        self.clock.now_ns += round(1e6 * (self.overhead_ms + self.ms * len(batch)))


class Clock:
    now_ns = 0

    def __call__(self):
        return self.now_ns


@pytest.fixture
def clock():
    return Clock()


def race(clock, engines, sizes=(1, 4), **options):
    contenders = {name: Contender(engine, TRAFFIC) for name, engine in engines.items()}
    found = measure(contenders, sizes, **{"budget_s": 1e9, "rounds": 5, "warm_up_rounds": 2} | options, clock=clock)
    return {one.candidate: one for one in found}


def test_milliseconds_are_per_query_at_each_batch_size(clock):
    found = race(clock, {BUCKETED: FakeEngine(clock, 0.5, overhead_ms=2)})[BUCKETED]
    assert found.rounds_ms == {1: [pytest.approx(2.5)] * 5, 4: [pytest.approx(1.0)] * 5}
    assert found.engine_id == "fake-1/int8"


def test_all_are_asked_the_same_in_an_order_that_rotates(clock):
    log = []

    class Logged(FakeEngine):
        def run(self, batch):
            log.append(self.engine_id)
            super().run(batch)

    engines = {name: Logged(clock, 1, engine_id=str(name.layout)) for name in (BUCKETED, PACKED, PADDED)}
    race(clock, engines, rounds=3, warm_up_rounds=1)
    first, *others = engines.values()
    assert all(one.calls == first.calls for one in others)
    calls_a_turn = 1 + 16 + 4  # one aside, 16 alone, 16 in batches of 4
    warm_up, timed_turns = ["bucketed", "packed", "padded"], log[3 * calls_a_turn :: calls_a_turn]
    assert log[: 3 * calls_a_turn : calls_a_turn] == warm_up
    assert timed_turns == [*warm_up, "packed", "padded", "bucketed", "padded", "bucketed", "packed"]


def test_every_query_of_the_traffic_is_drawn_before_one_comes_again(clock):
    engine = FakeEngine(clock, 1)
    race(clock, {BUCKETED: engine}, sizes=(1,), rounds=3, warm_up_rounds=1)
    drawn = [length for call in engine.calls for length in call]
    for start in range(0, len(drawn) - 8, 8):
        assert sorted(drawn[start : start + 8]) == TRAFFIC.lengths.tolist()


def test_a_batch_may_be_larger_than_the_traffic(clock):
    engine = FakeEngine(clock, 1)
    assert 20 in race(clock, {BUCKETED: engine}, sizes=(20,))[BUCKETED].rounds_ms


def test_stays_within_the_budget_but_times_three_rounds_at_least(clock):
    race(clock, {BUCKETED: FakeEngine(clock, 1), ORT: FakeEngine(clock, 2)}, rounds=10**6, budget_s=5)
    assert clock.now_ns <= 5e9
    slow = race(clock, {BUCKETED: FakeEngine(clock, 1000)}, rounds=50, budget_s=1)[BUCKETED]
    assert len(slow.rounds_ms[1]) == 3


def test_what_is_much_slower_rests_after_three_rounds(clock):
    found = race(clock, {BUCKETED: FakeEngine(clock, 1), PACKED: FakeEngine(clock, 2), ORT: FakeEngine(clock, 9)})
    rounds = {one.candidate: len(one.rounds_ms[1]) for one in found.values()}
    assert rounds == {BUCKETED: 5, PACKED: 5, ORT: 3}


@pytest.mark.parametrize("fails_at", [0, 3, 40, 70])
def test_what_fails_is_left_out_with_its_reason(clock, fails_at):
    found = race(clock, {BUCKETED: FakeEngine(clock, 1), ORT: FakeEngine(clock, 1, fails_at=fails_at)})
    assert found[ORT].reason == "broke down"
    assert not found[ORT].rounds_ms
    assert len(found[BUCKETED].rounds_ms[4]) == 5


def test_where_all_fail_the_reasons_are_told(clock):
    found = race(clock, {BUCKETED: FakeEngine(clock, 1, fails_at=0)})
    with pytest.raises(EngineError, match="openvino bucketed: broke down"):
        choose([*found.values()], Backend.OPENVINO)


@pytest.mark.parametrize("contenders", [{}, {BUCKETED: Contender(None, TokenBatch.from_sequences([]))}])
def test_nothing_to_measure(contenders):
    with pytest.raises(EngineError, match="Nothing to measure"):
        measure(contenders, [1], budget_s=1)


def timed(candidate, *ms, rounds=3):
    """A measurement of so many milliseconds at batches of 1, 2, 4 ..."""
    return Measurement(
        candidate, f"{candidate.backend}-1/{candidate.precision}", {2**i: [x] * rounds for i, x in enumerate(ms)}
    )


def test_the_fastest_is_chosen_over_all_batch_sizes():
    choice = choose([timed(BUCKETED, 4, 4), timed(ORT, 1, 9), timed(NATIVE, 3, 2)], Backend.OPENVINO)
    assert choice.measurement.candidate is NATIVE
    assert "by 22% over onnxruntime bucketed" in choice.why
    assert choice.int8_pays is None
    far = choose([timed(BUCKETED, 14), timed(NATIVE, 1)], Backend.OPENVINO)
    assert "14 times as fast as openvino bucketed" in far.why


def test_noise_moves_nobody_off_the_certified_engine_or_the_default_layout():
    measured = [timed(PADDED, 0.97), timed(NATIVE, 0.96), timed(BUCKETED, 1.0)]
    choice = choose(measured, Backend.OPENVINO)
    assert choice.measurement.candidate is BUCKETED
    assert choice.why == "native is less than 5% faster, so the certified engine stays."
    assert choose(measured, Backend.NATIVE).measurement.candidate is NATIVE
    assert choose(measured, Backend.ONNXRUNTIME).measurement.candidate is NATIVE  # no layout to speak of, and fastest


def test_a_tie_between_layouts_is_no_matter_of_certificates():
    choice = choose([timed(BUCKETED, 1.0), timed(PADDED, 0.97)], Backend.OPENVINO)
    assert choice.measurement.candidate is BUCKETED
    assert choice.why == "openvino padded is less than 5% faster, so openvino bucketed, the plainer one, stays."


def test_a_layout_of_the_certified_engine_is_taken_where_it_is_faster():
    assert choose([timed(BUCKETED, 2), timed(PADDED, 1)], Backend.OPENVINO).measurement.candidate is PADDED


@pytest.mark.parametrize(("fp32_ms", "pays"), [(2.0, True), (1.02, False), (0.5, False)])
def test_int8_pays_where_it_is_faster_than_fp32(fp32_ms, pays):
    choice = choose([timed(BUCKETED, 1.0), timed(FP32, fp32_ms)], Backend.OPENVINO)
    assert choice.int8_pays is pays
    assert choice.measurement.candidate is BUCKETED


def test_a_reference_alone_is_no_choice():
    with pytest.raises(EngineError, match="No engine can run"):
        choose([timed(FP32, 1.0), Measurement(NATIVE, reason="not built")], Backend.OPENVINO)


_ms = st.floats(0.01, 100)
_measured = st.dictionaries(st.sampled_from([BUCKETED, PACKED, PADDED, ORT, NATIVE]), st.tuples(_ms, _ms), min_size=1)


@given(_measured, st.none() | _ms, st.sampled_from(Backend), st.randoms(use_true_random=False))
def test_the_choice_is_within_a_tie_of_the_fastest_whatever_the_order(measured, fp32_ms, certified, random):
    given_ = [timed(candidate, *ms) for candidate, ms in measured.items()]
    if fp32_ms is not None:
        given_.append(timed(FP32, fp32_ms, fp32_ms))
    choice = choose(given_, certified)
    means = {one: math.sqrt(a * b) for one, (a, b) in measured.items()}
    chosen = choice.measurement.candidate
    assert means[chosen] <= TIE * min(means.values()) * (1 + 1e-9)
    assert chosen.backend is certified or all(
        mean > TIE * min(means.values()) * (1 - 1e-9) for one, mean in means.items() if one.backend is certified
    )
    assert (choice.int8_pays is None) == (fp32_ms is None)
    random.shuffle(given_)
    assert means[choose(given_, certified).measurement.candidate] == means[chosen]


@given(st.floats(0.01, 100), st.lists(st.floats(1, 30), min_size=3, max_size=20))
def test_ratios_are_taken_round_by_round_so_that_a_slow_machine_cancels(ratio, slowness):
    engine = Measurement(BUCKETED, "a", {1: slowness})
    reference = Measurement(FP32, "b", {1: [ratio * slow for slow in slowness]})
    kept, _ = measured_from([engine, reference])
    spread = kept.times_fp32[1]
    assert (spread.low, spread.median, spread.high) == pytest.approx((ratio, ratio, ratio))
    ms = kept.ms_per_query[1]
    assert ms.low <= ms.median <= ms.high
    assert ms.median == pytest.approx(float(np.median(slowness)))


def test_rounds_in_which_one_rested_are_not_compared():
    kept, _ = measured_from([Measurement(ORT, "a", {1: [2.0] * 3}), Measurement(FP32, "b", {1: [1.0] * 3 + [9.0] * 9})])
    assert kept.times_fp32[1].high == 0.5


def test_what_cannot_run_is_kept_with_its_reason():
    (kept,) = measured_from([Measurement(NATIVE, reason="not built")])
    assert (kept.reason, kept.ms_per_query, kept.times_fp32) == ("not built", {}, {})


def test_candidates_of_a_release():
    assert [*candidates("int8", {})] == [NATIVE, BUCKETED, PACKED, PADDED, ORT]
    assert {one.precision for one in candidates("fp32", {})} == {"fp32"}
    assert Backend.NATIVE not in {one.backend for one in candidates("fp32", {})}


def test_a_gpu_is_tried_where_its_package_is_installed():
    plain = [one.backend for one in candidates("int8", {"onnxruntime": "1.24"})]
    assert [one.backend for one in candidates("int8", {"tensorrt": "11.0"})] == [*plain, Backend.TENSORRT]
    gpu = [one.backend for one in candidates("fp32", {"onnxruntime-gpu": "1.24"})]
    assert gpu[-2:] == [Backend.ONNXRUNTIME_CUDA, Backend.ONNXRUNTIME_TENSORRT]


def test_an_engine_that_is_asked_for_is_the_only_candidate_installed_or_not():
    assert [one.backend for one in candidates("int8", {}, Backend.TENSORRT)] == [Backend.TENSORRT]
    assert candidates("int8", {}, Backend.OPENVINO) == [BUCKETED, PACKED, PADDED]
    assert candidates("int8", {"tensorrt": "11.0"}, Backend.ONNXRUNTIME) == [ORT]
    assert candidates("int8", {}, Backend.NATIVE) == [NATIVE]
