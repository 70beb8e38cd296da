import dataclasses
import json

import msgspec
import numpy as np
import pytest

from octavo.certify.certificate import certificate_from, certificate_json, read_certificate
from octavo.errors import InputError, ReleaseError
from octavo.types import Verdict

NAMES_OF_FORMAT_1 = {
    *(
        "format",
        "model",
        "version",
        "task",
        "rung",
        "verdict",
        "metric",
        "margin",
        "rows",
        "teacher",
        "engine",
    ),
    *("difference", "agreement", "engine_id", "hardware", "latency_ms", "speedup", "speedup_batch1"),
    *("compute_saved", "model_bytes", "sha256", "seeds", "created", "rows_needed", "reason", "mcnemar"),
    *("calibration", "score_shift", "slices", "flips", "flip_count", "determinism", "latency_histogram"),
    *("baselines", "selection"),
}


def plain(certificate):
    return json.loads(certificate_json(certificate))


def test_json_carries_the_names_of_the_format(make_certificate):
    content = plain(make_certificate())
    assert set(content) >= NAMES_OF_FORMAT_1
    assert content["format"] == 1
    assert content["verdict"] == "pass"
    assert set(content["difference"]) == {"value", "low", "high"}
    assert set(content["latency_ms"]) == {"batch1_p50", "batch1_p99", "per_query_batch32"}
    assert set(content["speedup"]) == set(content["speedup_batch1"]) == {"torch_fp32", "openvino_fp32"}
    assert set(content["sha256"]) == {"weights", "data", "engine"}
    assert set(content["mcnemar"]) == {"lost", "gained", "p_value"}
    assert set(content["slices"]) == {"label", "length"}


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


def test_a_baseline_that_was_not_measured_is_null(make_certificate):
    content = plain(make_certificate(baselines_ms={"openvino_fp32": 3.0}))
    assert content["speedup"]["torch_fp32"] is None
    assert content["speedup_batch1"]["torch_fp32"] is None
    assert content["compute_saved"] is None
    assert content["speedup"]["openvino_fp32"] > 1


def test_determinism_compares_rows_alone_and_in_a_batch(make_certificate, evidence_of, identity_of, timing_of):
    determinism = make_certificate().determinism
    assert (determinism.rows, determinism.identical_answers) == (8, 8)
    assert determinism.max_difference == pytest.approx(1e-4, rel=1e-2)
    untried = dataclasses.replace(evidence_of(), engine_alone=None)
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


def test_equal_inputs_give_equal_bytes(make_certificate):
    assert certificate_json(make_certificate()) == certificate_json(make_certificate())


def test_reads_what_it_wrote(make_certificate):
    certificate = make_certificate()
    assert read_certificate(certificate_json(certificate), "certificate.json") == certificate


def test_json_keeps_text_readable(make_certificate):
    assert "订票" in certificate_json(make_certificate()).decode()


def test_additions_of_a_later_version_are_read_over(make_certificate):
    content = {**plain(make_certificate()), "carbon": 3}
    assert read_certificate(json.dumps(content).encode(), "c.json").model == "intents"


@pytest.mark.parametrize(
    "content",
    [b"", b"not json", b"[]", b"{}", b"\xff\xfe", b'{"format": "one"}', b'{"format": 1}'],
)
def test_refuses_what_is_no_certificate(content):
    with pytest.raises(ReleaseError, match=r"store/m/1/certificate\.json: not a certificate"):
        read_certificate(content, "store/m/1/certificate.json")


def test_refuses_another_format(make_certificate):
    content = {**plain(make_certificate()), "format": 2, "verdict": "maybe"}
    with pytest.raises(ReleaseError, match=r"c\.json: certificate format 2; .* reads format 1"):
        read_certificate(json.dumps(content).encode(), "c.json")


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "fine"},
        {"rows": "many"},
        {"margin": -1},
        {"rows": 0},
        {"difference": {"value": 0.5, "low": 0.0, "high": 0.1}},
        {"teacher": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_refuses_a_field_that_is_wrong(make_certificate, change):
    content = {**plain(make_certificate()), **change}
    with pytest.raises(ReleaseError, match=r"c\.json"):
        read_certificate(json.dumps(content).encode(), "c.json")


def test_refuses_a_verdict_that_its_numbers_deny(make_certificate):
    forged = msgspec.structs.replace(make_certificate(lost=80), verdict=Verdict.PASS)
    with pytest.raises(ReleaseError, match="says 'pass', but its interval and margin mean 'fail'"):
        read_certificate(certificate_json(forged), "c.json")


def test_refuses_evidence_whose_parts_differ_in_length(evidence_of, identity_of, timing_of):
    evidence = evidence_of()
    with pytest.raises(InputError, match=r"labels.*999"):
        certificate_from(dataclasses.replace(evidence, labels=evidence.labels[1:]), identity_of(), timing_of(), 0.01)


def test_refuses_no_rows(evidence_of, identity_of, timing_of):
    evidence = evidence_of()
    nothing = dataclasses.replace(
        evidence.teacher, scores=np.zeros(0), names=[], confidence=np.zeros(0), logits=np.zeros((0, 5))
    )
    empty = dataclasses.replace(
        evidence, texts=[], labels=[], lengths=[], teacher=nothing, engine=nothing, engine_alone=None
    )
    with pytest.raises(InputError, match="no rows"):
        certificate_from(empty, identity_of(), timing_of(), 0.01)
