"""The file: its names, and what is refused of what is read."""

import json
import re

import msgspec
import pytest

from octavo.certify.certificate import certificate_json, read_certificate
from octavo.errors import ReleaseError
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


def test_a_certificate_of_before_traffic_was_priced_is_read(make_certificate):
    content = plain(make_certificate())
    del content["traffic"]
    assert read_certificate(json.dumps(content).encode(), "c.json").traffic is None


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
    with pytest.raises(ReleaseError, match="says 'pass', but its intervals and margin mean 'fail'"):
        read_certificate(certificate_json(forged), "c.json")


class TestSeveralMeasures:
    def test_what_was_written_is_read(self, certificate_of, embed_evidence, tag_evidence, rank_evidence):
        for evidence in (embed_evidence(), tag_evidence(), rank_evidence()):
            certificate = certificate_of(evidence)
            assert read_certificate(certificate_json(certificate), "c.json") == certificate

    def test_a_certificate_without_measures_is_read_as_before(self, make_certificate):
        content = plain(make_certificate())
        for name in ("measures", "unit", "item", "agreement_means", "flip_means"):
            del content[name]
        old = read_certificate(json.dumps(content).encode(), "c.json")
        assert (old.measures, old.unit, old.item, old.verdict) == ([], "row", "query", Verdict.PASS)
        content["verdict"] = "fail"
        with pytest.raises(ReleaseError, match="says 'fail'"):
            read_certificate(json.dumps(content).encode(), "c.json")

    @pytest.mark.parametrize(
        ("forge", "said"),
        [
            (lambda c: c.update(verdict="pass"), "says 'pass', but its intervals and margin mean 'fail'"),
            (lambda c: c["measures"][1].update(verdict="pass"), "it says 'pass' of 'ndcg@10 with"),
            (lambda c: c["measures"][1].update(verdict=None), "it says 'None' of 'ndcg@10 with"),
            (lambda c: c["measures"][2].update(verdict="pass"), "it says 'pass' of 'mrr@10'"),
            (lambda c: c["measures"][0].update(gates=False, verdict=None), "first measure, 'ndcg@10', does not gate"),
            (lambda c: c["measures"].pop(0), "is not the ndcg@10 at its top"),
            (lambda c: c["measures"][0]["engine"].update(value=0.99), "is not the ndcg@10 at its top"),
            (lambda c: c["difference"].update(low=0.0), "is not the ndcg@10 at its top"),
        ],
        ids=["verdict", "of a measure", "no verdict", "of a report", "gate", "first gone", "engine", "difference"],
    )
    def test_refuses_measures_that_do_not_bear_the_verdict(self, certificate_of, embed_evidence, forge, said):
        content = plain(certificate_of(embed_evidence(lost=0.0, asymmetric_lost=0.05)))
        forge(content)
        with pytest.raises(ReleaseError, match=re.escape(said)):
            read_certificate(json.dumps(content).encode(), "c.json")
