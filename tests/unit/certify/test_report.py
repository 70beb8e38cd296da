import dataclasses
import re
from html.parser import HTMLParser

import msgspec
import pytest

from octavo.certify.certificate import certificate_from
from octavo.certify.report import report_html
from octavo.certify.wording import times
from octavo.errors import InputError

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects tags and text, and checks that every element is closed in turn."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))


def write(certificates, chosen="int8-qat", **options):
    values = {"title": "A report", "reproduce": "octavo compress ./teacher", "notes": []}
    return report_html(certificates, chosen, **{**values, **options})


def test_the_verdict_comes_first(make_certificate):
    certificate = make_certificate(rows=4000, lost=5, gained=3)
    page = Page(write([certificate]))
    text = page.text
    assert "INT8 answers as well as the model it replaces." in text
    assert re.search(r"−0\.05 points \[−0\.\d\d, \+0\.\d\d\] against a margin of 1\.00, on 4,000 held-out rows", text)
    assert f"{times(certificate.speedup.torch_fp32)} faster than PyTorch FP32" in text
    assert f"{times(certificate.speedup.openvino_fp32)} faster than OpenVINO FP32" in text
    assert re.search(r"8\d% of the compute saved", text)
    assert page.tags.index("h1") < page.tags.index("svg")


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({"rows": 1000, "lost": 90}, "INT8 answers worse than the model it would replace."),
        ({"rows": 100, "lost": 1, "gained": 1}, "INT8 is not yet proven to be as good: it takes about"),
    ],
)
def test_a_chosen_rung_without_a_pass_is_not_praised(make_certificate, counts, sentence):
    text = Page(write([make_certificate(**counts)])).text
    assert sentence in text
    assert "as well as" not in text


def test_nothing_chosen_looks_closer_at_the_nearest(make_certificate):
    certificates = [
        make_certificate(rung="int8-ptq", rows=1000, lost=90),
        make_certificate(rung="int8-qat", rows=300, lost=3, gained=2),
    ]
    text = Page(write(certificates, chosen=None)).text
    assert "No rung is proven to be as good as the model that it would replace." in text
    assert "The nearest is int8-qat" in text
    passing = [make_certificate(rows=4000)]
    assert "Some rungs are as good as the model, but none was chosen." in Page(write(passing, chosen=None)).text


def test_every_rung_is_in_table_scatter_and_interval_plot(make_certificate):
    rungs = ["fp32", "int8-ptq-max", "int8-qat"]
    html = write([make_certificate(rung=rung) for rung in rungs])
    for rung in rungs:
        assert len(re.findall(rf'<text class="label[^"]*"[^>]*>{rung}</text>', html)) >= 4  # two plots, two widths
        assert f'<th scope="row">{rung}<small>' in html
    assert html.count("<tr class=chosen>") == 1


def test_one_file_without_scripts_or_outside_hosts(make_certificate):
    html = write([make_certificate()])
    page = Page(html)
    assert "script" not in page.tags
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in {"src", "href"} or a[1].startswith("on")]
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html


def test_text_from_outside_is_inert(make_certificate, evidence_of, identity_of, timing_of):
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
    page = Page(write([certificate], attack, title=attack, reproduce=attack, notes=[attack]))
    assert not {"script", "img"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text


def test_user_text_keeps_its_own_direction(make_certificate):
    html = write([make_certificate()])
    assert '<bdi dir="auto">订票</bdi>' in html
    assert '<td class="text"><bdi dir="auto">query number' in html


def test_lost_rows_are_listed_before_gained_ones_and_many_are_folded(make_certificate):
    html = write([make_certificate(rows=2000, lost=9, gained=9)])
    outcomes = re.findall(r'badge \w+">(lost|gained|changed)<', html)
    assert outcomes == ["lost"] * 9 + ["gained"] * 9 + ["changed"] * 2
    assert "Show 8 more" in html


def test_no_flips_is_said_plainly(make_certificate):
    text = Page(write([make_certificate(lost=0, gained=0, changed=0)])).text
    assert "Nothing: all 1,000 rows are answered as by the teacher." in text


def test_missing_baselines_leave_dashes_not_numbers(make_certificate):
    text = Page(write([make_certificate(baselines_ms={})])).text
    assert "faster than" not in text
    assert "of the compute saved" not in text
    assert "–" in text


def test_a_slower_engine_is_called_slower(make_certificate):
    text = Page(write([make_certificate(rows=4000, baselines_ms={"torch_fp32": 0.5})])).text
    assert re.search(r"Slower than PyTorch FP32 \(0\.[45]\d× its speed\)", text)
    assert "of the compute saved" not in text


def test_how_it_was_measured_and_how_to_repeat_it(make_certificate):
    text = Page(write([make_certificate()], notes=["The budget ran out."])).text
    for part in ("a" * 64, "b" * 64, "c" * 64, "Xeon", "avx512_vnni", "openvino 2026.4.1", "bootstrap 0"):
        assert part in text
    assert "octavo compress ./teacher" in text
    assert "The budget ran out." in text
    assert "8 of 8 inputs get the same answer" in text


def test_tables_name_their_columns_and_rows(make_certificate):
    page = Page(write([make_certificate()]))
    scopes = [value for tag, name, value in page.attributes if tag == "th" and name == "scope"]
    assert scopes.count("col") > 10
    assert page.tags.count("th") == len(scopes)


def test_same_certificates_same_page(make_certificate):
    assert write([make_certificate()]) == write([make_certificate()])


def test_refuses_no_certificates_and_a_rung_that_is_not_there(make_certificate):
    with pytest.raises(InputError, match="at least one"):
        write([])
    with pytest.raises(InputError, match=r"'int4' has no certificate; there are: int8-qat"):
        write([make_certificate()], chosen="int4")
