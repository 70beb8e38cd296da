import dataclasses
import re

import msgspec
import pytest

from octavo.certify.certifying import certificate_from
from octavo.certify.report import report_html
from octavo.certify.wording import times
from octavo.errors import InputError


def write(certificates, chosen="int8-qat", **options):
    values = {"title": "A report", "reproduce": "octavo compress ./teacher", "notes": []}
    return report_html(certificates, chosen, **{**values, **options})


def test_the_verdict_comes_first(make_certificate, page):
    certificate = make_certificate(rows=4000, lost=5, gained=3)
    parsed = page(write([certificate]))
    text = parsed.text
    assert "INT8 answers as well as the model it replaces." in text
    assert re.search(r"−0\.05 points \[−0\.\d\d, \+0\.\d\d\] against a margin of 1\.00, on 4,000 held-out rows", text)
    assert f"{times(certificate.speedup.torch_fp32)} faster than PyTorch FP32" in text
    assert f"{times(certificate.speedup.openvino_fp32)} faster than OpenVINO FP32" in text
    assert re.search(r"8\d% of the compute saved", text)
    assert parsed.tags.index("h1") < parsed.tags.index("svg")


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({"rows": 1000, "lost": 90}, "INT8 answers worse than the model it would replace."),
        ({"rows": 100, "lost": 1, "gained": 1}, "INT8 is not yet proven to be as good: it takes about"),
    ],
)
def test_a_chosen_rung_without_a_pass_is_not_praised(make_certificate, counts, sentence, page):
    text = page(write([make_certificate(**counts)])).text
    assert sentence in text
    assert "as well as" not in text


def test_nothing_chosen_looks_closer_at_the_nearest(make_certificate, page):
    certificates = [
        make_certificate(rung="int8-ptq", rows=1000, lost=90),
        make_certificate(rung="int8-qat", rows=300, lost=3, gained=2),
    ]
    text = page(write(certificates, chosen=None)).text
    assert "No rung is proven to be as good as the model that it would replace." in text
    assert "The nearest is int8-qat" in text
    passing = [make_certificate(rows=4000)]
    assert "Some rungs are as good as the model, but none was chosen." in page(write(passing, chosen=None)).text


def test_every_rung_is_in_table_scatter_and_interval_plot(make_certificate):
    rungs = ["fp32", "int8-ptq-max", "int8-qat"]
    html = write([make_certificate(rung=rung) for rung in rungs])
    for rung in rungs:
        assert len(re.findall(rf'<text class="label[^"]*"[^>]*>{rung}</text>', html)) >= 4  # two plots, two widths
        assert f'<th scope="row">{rung}<small>' in html
    assert html.count("<tr class=chosen>") == 1


def test_one_file_without_scripts_or_outside_hosts(make_certificate, page):
    html = write([make_certificate()])
    parsed = page(html)
    assert "script" not in parsed.tags
    assert not {"link", "img", "iframe", "object"} & set(parsed.tags)
    assert not [a for a in parsed.attributes if a[1] in {"src", "href"} or a[1].startswith("on")]
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html


def test_text_from_outside_is_inert(make_certificate, evidence_of, identity_of, timing_of, page):
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    evidence = evidence_of()
    attacked = [
        dataclasses.replace(
            answers,
            names=[name + attack * model for name in answers.names],
            measures=(
                dataclasses.replace(answers.measures[0], name=attack),
                dataclasses.replace(answers.measures[0], name=f"f1 {attack}", gates=True),
                dataclasses.replace(answers.measures[0], name=f"map {attack}"),
            ),
        )
        for model, answers in enumerate((evidence.engine, evidence.teacher))
    ]
    evil = dataclasses.replace(
        evidence,
        texts=[attack] * len(evidence.texts),
        labels=[label + attack for label in evidence.labels],
        slices=[name + attack for name in evidence.slices],
        engine=attacked[0],
        teacher=attacked[1],
        **dict.fromkeys(("unit", "item", "agreement_means", "flip_means"), attack),
    )
    identity = identity_of(
        **dict.fromkeys(("model", "version", "task", "rung", "metric", "engine_id", "created"), attack),
        selection={attack: attack},
        seeds={attack: 1},
        hardware=msgspec.structs.replace(identity_of().hardware, cpu=attack, packages={attack: attack}),
    )
    certificate = certificate_from(evil, identity, timing_of(torch_fp32=2.0, other=3.0), 0.01)
    parsed = page(write([certificate], attack, title=attack, reproduce=attack, notes=[attack]))
    assert not {"script", "img"} & set(parsed.tags)
    assert "<script>alert(1)</script>" in parsed.text


def test_user_text_keeps_its_own_direction(make_certificate):
    html = write([make_certificate()])
    assert '<bdi dir="auto">订票</bdi>' in html
    assert '<td class="text"><bdi dir="auto">query number' in html


def test_lost_rows_are_listed_before_gained_ones_and_many_are_folded(make_certificate):
    html = write([make_certificate(rows=2000, lost=9, gained=9)])
    outcomes = re.findall(r'badge \w+">(lost|gained|changed)<', html)
    assert outcomes == ["lost"] * 9 + ["gained"] * 9 + ["changed"] * 2
    assert "Show 8 more" in html


def test_no_flips_is_said_plainly(make_certificate, page):
    text = page(write([make_certificate(lost=0, gained=0, changed=0)])).text
    assert "Nothing: all 1,000 rows are answered as by the teacher." in text


def test_missing_baselines_leave_dashes_not_numbers(make_certificate, page):
    text = page(write([make_certificate(baselines_ms={})])).text
    assert "faster than" not in text
    assert "of the compute saved" not in text
    assert "–" in text


def test_a_slower_engine_is_called_slower(make_certificate, page):
    text = page(write([make_certificate(rows=4000, baselines_ms={"torch_fp32": 0.5})])).text
    assert re.search(r"Slower than PyTorch FP32 \(0\.[45]\d× its speed\)", text)
    assert "of the compute saved" not in text


def test_the_cost_of_traffic_is_told_where_it_is_known(make_certificate, page):
    certificate = make_certificate()
    told = page(write([certificate]))
    hours = certificate.traffic.core_time["torch_fp32"].core_hours_per_100m_batched
    assert f"{hours:,.1f}" in told.texts
    assert "What traffic costs" in told.texts
    old = msgspec.structs.replace(certificate, traffic=None)
    assert "What traffic costs" not in page(write([old])).texts


def test_how_it_was_measured_and_how_to_repeat_it(make_certificate, page):
    text = page(write([make_certificate()], notes=["The budget ran out."])).text
    for part in ("a" * 64, "b" * 64, "c" * 64, "Xeon", "avx512_vnni", "openvino 2026.4.1", "bootstrap 0"):
        assert part in text
    assert "octavo compress ./teacher" in text
    assert "The budget ran out." in text
    assert "8 of 8 inputs get the same answer" in text


def test_settings_are_told_in_words(make_certificate, page):
    selection = {
        "dev": {"value": 0.45454545, "metric": "accuracy"},
        "dev_scores": [0.5, 0.25],
        "is_best": True,
        "note": "",
    }
    text = page(write([msgspec.structs.replace(make_certificate(), selection=selection)])).text
    assert "dev metric: accuracy, dev value: 0.4545, dev scores: 0.5 0.25, is best: yes" in text
    assert "note" not in text


def test_tables_name_their_columns_and_rows(make_certificate, page):
    parsed = page(write([make_certificate()]))
    scopes = [value for tag, name, value in parsed.attributes if tag == "th" and name == "scope"]
    assert scopes.count("col") > 10
    assert parsed.tags.count("th") == len(scopes)


def test_same_certificates_same_page(make_certificate):
    assert write([make_certificate()]) == write([make_certificate()])


def test_refuses_no_certificates_and_a_rung_that_is_not_there(make_certificate):
    with pytest.raises(InputError, match="at least one"):
        write([])
    with pytest.raises(InputError, match=r"'int4' has no certificate; there are: int8-qat"):
        write([make_certificate()], chosen="int4")


class TestOtherTasks:
    def test_the_metric_and_the_units_are_named_everywhere(self, certificate_of, embed_evidence, page):
        html = write([certificate_of(embed_evidence(), rung=rung) for rung in ("fp32", "int8-qat")])
        text = page(html).text
        assert re.search(r"points of nDCG@10 \[−0\.\d\d, \+0\.\d\d\] against a margin of 1\.00", text)
        assert "on 900 held-out queries." in text
        assert text.count("Points are hundredths of nDCG@10.") == 1
        assert "nDCG@10 × 100" in text
        assert "ms per text, batches of 32" in text
        assert "How long one text takes" in text
        assert "of the top 10 are the same" in text
        assert "%" not in re.search(r"nDCG@10 × 100(.*?)ms per text", text).group(1)
        assert not re.search(r"accuracy|ndcg@10|per query|held-out rows", text)

    def test_accuracy_needs_no_word_on_points(self, make_certificate, page):
        text = page(write([make_certificate()])).text
        assert "hundredths" not in text
        assert "accuracy, %" in text
        assert "Every measure" not in text

    def test_every_measure_has_a_line_and_each_that_decides_a_picture(self, certificate_of, embed_evidence):
        html = write([certificate_of(embed_evidence())])
        assert "Every measure of int8-qat" in html
        for name in ("nDCG@10", "nDCG@10 with the teacher&#x27;s documents", "MRR@10", "Recall@10"):
            assert f'<th scope="row">{name}</th>' in html
        assert html.count(">reported<") == 2
        identifiers = re.findall(r'<title id="(forest[^"]*)"', html)
        assert len(identifiers) == len(set(identifiers)) == 4  # two measures that decide, for page and phone

    def test_a_verdict_that_another_measure_decided_is_said_with_its_name(self, certificate_of, embed_evidence, page):
        certificate = certificate_of(embed_evidence(lost=0.0, asymmetric_lost=0.05))
        text = page(write([certificate])).text
        assert "INT8 answers worse than the model it would replace." in text
        assert re.search(
            r"replace\. The engine is \d\.\d\d points below the teacher in nDCG@10 with the teacher's doc", text
        )

    def test_rankings_have_another_first_result(self, certificate_of, rank_evidence, page):
        text = page(write([certificate_of(rank_evidence())])).text
        assert re.search(
            r"\d+ of 800 queries have another first result\. The engine scores lower than the teacher on", text
        )
        assert "% sure" not in text

    def test_what_has_no_data_is_left_out(self, certificate_of, tag_evidence, rank_evidence, page):
        tagged = page(write([certificate_of(tag_evidence())])).text
        assert "By label" not in tagged
        assert "By length" in tagged
        assert "Calibration error" not in tagged
        assert "Probability mass moved" in tagged
        ranked = page(write([certificate_of(rank_evidence())])).text
        assert "Probability" not in ranked
        assert "Shift of a score0.004 on average" in ranked

    def test_inconclusive_says_how_many_more_of_what(self, certificate_of, tag_evidence, page):
        text = page(write([certificate_of(tag_evidence(rows=60))])).text
        assert re.search(r"INT8 is not yet proven to be as good: it takes about [\d,]+ sentences to tell\.", text)

    def test_scores_that_changed_without_another_answer_are_told(self, certificate_of, rank_evidence, page):
        evidence = rank_evidence()
        named = dataclasses.replace(evidence.engine, names=evidence.teacher.names)
        text = page(write([certificate_of(dataclasses.replace(evidence, engine=named))])).text
        assert "0 of 800 queries have another first result. The engine scores lower than the teacher on" in text
        assert "Outcome" not in text

    def test_an_old_certificate_without_measures_is_reported(self, make_certificate, page):
        old = msgspec.structs.replace(make_certificate(rows=4000), measures=[])
        text = page(write([old])).text
        assert "INT8 answers as well as the model it replaces." in text
        assert "on the same 4,000 held-out rows" in text

    def test_chinese_and_arabic_keep_their_direction(self, certificate_of, tag_evidence):
        html = write([certificate_of(tag_evidence())])
        assert '<td class="text"><bdi dir="auto">明天早上从北京飞上海的机票</bdi>' in html
        assert '<td class="text"><bdi dir="auto">احجز طاولة في بيروت مساء الجمعة</bdi>' in html
        for font in ("Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei"):
            assert font in html
