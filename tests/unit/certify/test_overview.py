import re

import pytest

from octavo.certify.overview import OverviewEntry, overview_html
from octavo.errors import InputError


@pytest.fixture
def stack(make_certificate, certificate_of, tag_evidence, embed_evidence, rank_evidence):
    intents = [make_certificate(rung=rung, rows=4000) for rung in ("fp32", "int8-qat")]
    slots = certificate_of(tag_evidence(2600, 0.002), task="tag")
    return [
        OverviewEntry("intents", "names what a query is after", "intents/report.html", intents, "int8-qat"),
        OverviewEntry("slots", "finds its parts", "slots/report.html", [slots], "int8-qat"),
        OverviewEntry("retriever", "finds documents", "r/report.html", [certificate_of(embed_evidence())], "int8-qat"),
        OverviewEntry("reranker", "sorts them", "rr/report.html", [certificate_of(rank_evidence())], "int8-qat"),
    ]


def write(entries, **options):
    return overview_html(entries, **{"title": "The stack", "reproduce": "octavo demo", "notes": [], **options})


def test_every_model_has_a_card_and_a_line_that_lead_to_its_report(stack, page):
    html = write(stack)
    parsed = page(html)
    assert parsed.tags.count("article") == 4
    links = [value for tag, name, value in parsed.attributes if (tag, name) == ("a", "href")]
    assert sorted(links) == sorted(2 * [entry.href for entry in stack])
    for entry in stack:
        assert f"{entry.name}int8-qat" in parsed.text  # the line
        assert f"{entry.name}{entry.what}" in parsed.text  # the card
    assert "All 4 models answer as well as the ones they replace." in parsed.text


def test_a_card_says_what_was_proved_and_what_was_gained(stack, page):
    certificate = stack[2].certificates[0]
    card = re.findall(r"<article>.*?</article>", write(stack))[2]
    text = page(card).text
    assert f"nDCG@10 {100 * certificate.teacher.value:.2f} → {100 * certificate.engine.value:.2f}" in text
    assert re.search(r"[−+]\d\.\d\d points \[[−+]\d\.\d\d, [−+]\d\.\d\d\], margin 1\.00", text)
    assert re.search(r"nDCG@10 with the teacher's documents: [−+]\d\.\d\d points \[.*\] ✓ pass", text)
    for figure in (
        "vs PyTorch FP32",
        "vs OpenVINO FP32",
        "ms per text",
        "MB on disk",
        "compute saved",
        "of the top 10",
    ):
        assert figure in text
    assert "int8-qat · 900 held-out queries" in text


def test_what_does_not_go_live_is_counted_and_shown_with_its_verdict(stack, certificate_of, embed_evidence, page):
    failed = certificate_of(embed_evidence(lost=0.0, asymmetric_lost=0.05))
    entries = [*stack[:2], OverviewEntry("retriever", "finds", "r.html", [failed], None)]
    html = write(entries)
    text = page(html).text
    assert "2 of 3 models go live in place of the teacher." in text
    assert "int8-qat, not live" in text
    assert re.search(r"teacher's documents: −\d\.\d\d points \[[^]]*\] ✕ fail", text)
    assert "1 of 2 models goes live" in page(write([stack[0], entries[2]])).text


def test_one_model_is_no_crowd(stack, page):
    assert "The model answers as well as the one it replaces." in page(write(stack[:1])).text


def test_one_file_without_scripts_or_outside_hosts(stack, page):
    html = write(stack)
    parsed = page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert not [a for a in parsed.attributes if a[1] == "src" or a[1].startswith("on")]
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html
    assert parsed.tags.count("h1") == 1


def test_text_from_outside_is_inert(certificate_of, rank_evidence, page):
    attack = "<script>alert(1)</script>\"'&"
    certificate = certificate_of(rank_evidence(), **dict.fromkeys(("model", "task", "rung", "engine_id"), attack))
    entry = OverviewEntry(attack, attack, f"{attack}.html", [certificate], attack)
    parsed = page(write([entry], title=attack, reproduce=attack, notes=[attack]))
    assert "script" not in parsed.tags
    assert "<script>alert(1)</script>" in parsed.text


def test_baselines_that_were_not_measured_are_left_out(make_certificate, page):
    entry = OverviewEntry("intents", "what", "r.html", [make_certificate(baselines_ms={})], "int8-qat")
    cards = page("".join(re.findall(r"<article>.*?</article>", write([entry])))).text
    assert "vs PyTorch" not in cards
    assert "compute saved" not in cards
    assert "the speed of PyTorch" not in page(write([entry])).text


def test_same_certificates_same_page(stack):
    assert write(stack) == write(stack)


@pytest.mark.parametrize("href", ["https://example.org/r.html", "//example.org/r.html", "javascript:alert(1)", ""])
def test_refuses_a_report_that_is_not_beside_the_page(stack, href):
    entry = OverviewEntry("intents", "what", href, stack[0].certificates, "int8-qat")
    with pytest.raises(InputError, match="beside the overview"):
        write([entry])


def test_refuses_no_models_and_models_without_proof(stack):
    with pytest.raises(InputError, match="at least one model"):
        write([])
    with pytest.raises(InputError, match="at least one certificate"):
        write([OverviewEntry("intents", "what", "r.html", [], None)])
    with pytest.raises(InputError, match="'int4' has no certificate"):
        write([OverviewEntry("intents", "what", "r.html", stack[0].certificates, "int4")])
