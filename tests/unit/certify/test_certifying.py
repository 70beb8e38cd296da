"""From evidence to a certificate: its numbers, its verdict, and what is refused as evidence."""

import dataclasses
import math
import re

import numpy as np
import pytest

from octavo.certify.certificate import Determinism
from octavo.certify.certifying import certificate_from
from octavo.errors import InputError
from octavo.types import Measure, Verdict


def test_numbers(make_certificate):
    certificate = make_certificate(rows=1000, lost=6, gained=2, changed=3)
    assert certificate.rows == 1000
    assert certificate.teacher.value == pytest.approx(0.9)
    assert certificate.engine.value == pytest.approx(0.896)
    assert certificate.difference.value == pytest.approx(-0.004)
    assert certificate.agreement == pytest.approx(1 - 11 / 1000)
    assert (certificate.mcnemar.lost, certificate.mcnemar.gained) == (6, 2)
    assert certificate.speedup.torch_fp32 == pytest.approx(9, rel=0.2)
    assert certificate.speedup.openvino_fp32 == pytest.approx(3, rel=0.2)
    assert certificate.compute_saved == pytest.approx(1 - 1 / certificate.speedup.torch_fp32)
    assert certificate.seeds == {"train": 0, "bootstrap": 0}
    assert sum(s.rows for s in certificate.slices.label) == 1000
    assert sum(s.rows for s in certificate.slices.length) == 1000


def test_flips_come_lost_first_and_the_surest_first(make_certificate):
    certificate = make_certificate(lost=5, gained=4, changed=3)
    assert [flip.outcome for flip in certificate.flips] == ["lost"] * 5 + ["gained"] * 4 + ["changed"] * 3
    sure = [flip.teacher_confidence for flip in certificate.flips[:5]]
    assert sure == sorted(sure, reverse=True)
    assert all(flip.teacher == flip.label for flip in certificate.flips[:5])
    assert all(flip.engine == flip.label for flip in certificate.flips[5:9])


def test_at_most_200_flips_are_listed_and_all_are_counted(make_certificate):
    certificate = make_certificate(rows=3000, lost=250, gained=50)
    assert len(certificate.flips) == 200
    assert certificate.flip_count == 302


def test_a_baseline_that_was_not_measured_has_no_speed_up(make_certificate):
    certificate = make_certificate(baselines_ms={"openvino_fp32": 3.0})
    assert certificate.speedup.torch_fp32 is None
    assert certificate.speedup_batch1.torch_fp32 is None
    assert certificate.compute_saved is None
    assert certificate.speedup.openvino_fp32 > 1


def test_traffic_is_priced_in_core_hours(make_certificate):
    cost = make_certificate().traffic
    assert set(cost.core_time) == {"engine", "torch_fp32", "openvino_fp32"}
    engine = cost.core_time["engine"]
    assert engine.core_hours_per_100m_batched == pytest.approx(engine.batched_ms * 1e8 / 3.6e6)
    assert engine.alone_ms > engine.batched_ms
    saved = cost.saved["torch_fp32"].batched
    assert saved.value == pytest.approx(1 - 1 / 9, abs=0.03)
    assert saved.low <= saved.value <= saved.high


@pytest.mark.parametrize("engine", ["tensorrt-10.1/int8/fp16/t4", "onnxruntime-1.27/int8/fp16/cuda"])
def test_what_a_gpu_costs_is_not_the_time_of_the_cpu(evidence_of, identity_of, timing_of, engine):
    assert certificate_from(evidence_of(), identity_of(engine_id=engine), timing_of(), 0.01).traffic is None


def test_determinism_is_what_was_found(make_certificate, evidence_of, identity_of, timing_of):
    assert make_certificate().determinism == Determinism(8, 8, 1e-4)
    untried = dataclasses.replace(evidence_of(), determinism=None)
    assert certificate_from(untried, identity_of(), timing_of(), 0.01).determinism is None


@pytest.mark.parametrize(
    ("rows", "lost", "gained", "verdict"),
    [(1000, 4, 3, Verdict.PASS), (1000, 80, 3, Verdict.FAIL), (200, 2, 2, Verdict.INCONCLUSIVE)],
)
def test_verdict(make_certificate, rows, lost, gained, verdict):
    certificate = make_certificate(rows=rows, lost=lost, gained=gained)
    assert certificate.verdict is verdict
    assert (certificate.rows_needed is not None) == (verdict is Verdict.INCONCLUSIVE)
    assert certificate.reason.endswith(".")


def changed(answers, **changes):
    return dataclasses.replace(answers, **changes)


@pytest.mark.parametrize("part", ["labels", "lengths", "slices"])
def test_refuses_evidence_whose_parts_differ_in_length(evidence_of, identity_of, timing_of, part):
    evidence = evidence_of()
    short = dataclasses.replace(evidence, **{part: getattr(evidence, part)[1:]})
    with pytest.raises(InputError, match=rf"1000 rows .*{part}.*999"):
        certificate_from(short, identity_of(), timing_of(), 0.01)


@pytest.mark.parametrize("part", ["names", "agreement", "confidence"])
def test_refuses_answers_to_other_units(evidence_of, identity_of, timing_of, part):
    evidence = evidence_of()
    short = changed(evidence.engine, **{part: getattr(evidence.engine, part)[1:]})
    with pytest.raises(InputError, match=rf"engine\.{part}.*999"):
        certificate_from(dataclasses.replace(evidence, engine=short), identity_of(), timing_of(), 0.01)


def test_refuses_no_rows(evidence_of, identity_of, timing_of):
    evidence = evidence_of()
    nothing = changed(
        evidence.teacher,
        measures=(Measure("accuracy", np.zeros(0), np.zeros(0)),),
        names=[],
        agreement=np.zeros(0),
        confidence=np.zeros(0),
        shown=np.zeros((0, 5)),
    )
    empty = dataclasses.replace(evidence, texts=[], labels=[], lengths=[], slices=[], teacher=nothing, engine=nothing)
    with pytest.raises(InputError, match="no rows"):
        certificate_from(empty, identity_of(), timing_of(), 0.01)


@pytest.mark.parametrize("agreement", [1.5, -0.1, math.nan])
def test_refuses_an_agreement_that_is_no_share(evidence_of, identity_of, timing_of, agreement):
    evidence = evidence_of()
    odd = changed(evidence.engine, agreement=np.full(1000, agreement))
    with pytest.raises(InputError, match="Agreement"):
        certificate_from(dataclasses.replace(evidence, engine=odd), identity_of(), timing_of(), 0.01)


def test_refuses_a_metric_that_was_not_measured(evidence_of, identity_of, timing_of):
    with pytest.raises(InputError, match=r"'f1' is to be certified.*accuracy"):
        certificate_from(evidence_of(), identity_of(metric="f1"), timing_of(), 0.01)


class TestSeveralMeasures:
    def test_every_one_is_recorded_and_the_first_stands_at_the_top(self, certificate_of, embed_evidence):
        c = certificate_of(embed_evidence())
        assert [(m.name, m.gates, m.verdict) for m in c.measures] == [
            ("ndcg@10", True, "pass"),
            ("ndcg@10 with the teacher's documents", True, "pass"),
            ("mrr@10", False, None),
            ("recall@10", False, None),
        ]
        first = c.measures[0]
        assert (c.metric, c.teacher, c.engine) == ("ndcg@10", first.teacher, first.engine)
        assert (c.difference, c.difference_sd, c.reason) == (first.difference, first.difference_sd, first.reason)
        assert (c.unit, c.item, c.agreement_means) == ("query", "text", "of the top 10 are the same")
        assert c.agreement == pytest.approx(0.97, abs=0.01)
        assert all(m.difference.low < m.difference.value < m.difference.high for m in c.measures)

    def test_a_second_measure_that_gates_fails_the_certificate(self, certificate_of, embed_evidence):
        c = certificate_of(embed_evidence(lost=0.0, asymmetric_lost=0.05))
        assert [m.verdict for m in c.measures[:2]] == ["pass", "fail"]
        assert c.verdict is Verdict.FAIL
        assert c.rows_needed is None
        assert re.match(r"The engine is [\d.]+ points below the teacher in nDCG@10 with the teacher's doc", c.reason)
        assert "in nDCG" not in c.measures[0].reason

    def test_a_measure_that_is_only_reported_decides_nothing(self, certificate_of, embed_evidence):
        evidence = embed_evidence()
        mrr = evidence.engine.measures[2]
        poor = Measure(mrr.name, mrr.gains * 0.5, mrr.weights)
        worse = changed(evidence.engine, measures=(*evidence.engine.measures[:2], poor, evidence.engine.measures[3]))
        c = certificate_of(dataclasses.replace(evidence, engine=worse))
        assert c.measures[2].difference.high < -0.2
        assert c.verdict is Verdict.PASS

    def test_of_two_inconclusive_ones_the_one_that_needs_more_units_speaks(self, certificate_of, embed_evidence):
        c = certificate_of(embed_evidence(rows=200, lost=0.0, asymmetric_lost=0.004))
        first, second = c.measures[:2]
        assert first.verdict is second.verdict is c.verdict is Verdict.INCONCLUSIVE
        assert first.rows_needed < second.rows_needed == c.rows_needed
        assert c.reason == second.reason

    @pytest.mark.parametrize("measures", [(), "first", "renamed", "ungated"])
    def test_refuses_models_that_were_measured_differently(self, certificate_of, embed_evidence, measures):
        evidence = embed_evidence()
        engine = evidence.engine.measures
        others = {
            "first": engine[:1],
            "renamed": (*engine[:3], dataclasses.replace(engine[3], name="map")),
            "ungated": (engine[0], dataclasses.replace(engine[1], gates=False), *engine[2:]),
        }.get(measures, ())
        with pytest.raises(InputError, match="the same measures"):
            certificate_of(dataclasses.replace(evidence, engine=changed(evidence.engine, measures=others)))


class TestOtherUnits:
    def test_a_ratio_over_sentences(self, certificate_of, tag_evidence):
        c = certificate_of(tag_evidence(rows=700, lost=0.03), margin=0.02)
        assert c.rows == 700
        assert c.metric == "f1"
        assert re.search(r"on 700 sentences", c.reason)
        assert c.slices.label == []
        assert sum(s.rows for s in c.slices.length) == 700
        assert c.calibration is None
        assert c.score_shift.total_variation is not None

    def test_without_confidences_the_largest_changes_come_first(self, certificate_of, embed_evidence):
        c = certificate_of(embed_evidence())
        assert c.flip_count == len(c.flips) > 5
        assert {flip.teacher_confidence for flip in c.flips} == {flip.engine_confidence for flip in c.flips} == {None}
        assert [flip.outcome for flip in c.flips] == sorted((f.outcome for f in c.flips), reverse=True)
        assert c.flip_means == "have another first result"
        assert c.score_shift.total_variation is None
        assert c.score_shift.max == pytest.approx(0.003, rel=1e-3)

    def test_confidence_in_graded_answers_is_not_calibrated(self, certificate_of, evidence_of):
        evidence = evidence_of()
        graded = [
            changed(a, measures=(Measure("accuracy", a.measures[0].gains * 0.5, a.measures[0].weights),))
            for a in (evidence.teacher, evidence.engine)
        ]
        c = certificate_of(dataclasses.replace(evidence, teacher=graded[0], engine=graded[1]))
        assert c.calibration is None
        assert certificate_of(evidence).calibration is not None
