import io

import pytest
from rich.console import Console

from octavo.cli.outcome import show_certificate, verdict_sentence
from octavo.cli.tables import ReleaseLine, engine_name, measure_table, release_table, rung_table


def rendered(table, width):
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    screen.print(table)
    return screen.file.getvalue()


@pytest.fixture
def ladder(make_certificate):
    return [
        make_certificate(rung="fp32", engine_id="openvino-2026.4.1/fp32/f32"),
        make_certificate(rung="int8-ptq-percentile", lost=10),
        make_certificate(rung="int8-ptq-max", lost=100),
        make_certificate(rung="int8-qat"),
    ]


@pytest.mark.parametrize("width", [120, 112, 80])
def test_the_ladder_fits_and_loses_no_number(ladder, width):
    shown = rendered(rung_table(ladder, "int8-qat", width), width)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    for word in (
        "▶ int8-qat",
        "int8-ptq-percentile",
        "openvino int8",
        "−10.00",
        "inconclusive",
        "fail",
        "pass",
        "9.0×",
    ):
        assert word in shown
    assert shown.count("▶") == 1
    assert ("compute" in shown) == ("23.4" in shown) == (width > 80)


def test_without_a_choice_nothing_is_marked(ladder):
    assert "▶" not in rendered(rung_table(ladder, None, 120), 120)


def test_a_listing_shows_what_is_current_and_what_is_broken(make_certificate):
    lines = [
        ReleaseLine("intents", "1", True, "int8-qat", "2026-01-02T03:04:05+00:00", 23_400_000, make_certificate(), ""),
        ReleaseLine("intents", "2", False, None, None, None, None, "manifest.json: missing"),
    ]
    shown = rendered(release_table(lines, 120), 120)
    assert "▶ intents/1" in shown
    assert "2026-01-02 03:04" in shown
    assert "broken" in shown
    assert max(map(len, rendered(release_table(lines, 80), 80).splitlines())) <= 80


def test_the_metric_is_the_certificates_own(make_certificate):
    shown = rendered(rung_table([make_certificate(metric="ndcg@10")], None, 120), 120)
    assert "nDCG@10" in shown
    assert "accuracy" not in shown


@pytest.mark.parametrize("width", [120, 80])
def test_a_listing_of_several_metrics_names_each(make_certificate, width):
    intents, retriever = make_certificate(), make_certificate(metric="ndcg@10", lost=10)
    lines = [
        ReleaseLine("intents", "1", True, "int8-qat", None, 1, intents, ""),
        ReleaseLine("retriever", "1", True, "int8-qat", None, 1, retriever, ""),
    ]
    shown = rendered(release_table(lines, width), width)
    assert "accuracy 100.00" in shown
    assert "nDCG@10 99.00" in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    assert "accuracy 100" not in rendered(release_table(lines[:1], width), width)


@pytest.mark.parametrize("width", [120, 80])
def test_every_measure_is_listed_with_what_it_decides(make_certificate, width):
    reported = ["mrr@10", "ndcg@10 with the teacher's documents and a long name for that"]
    certificate = make_certificate(metric="ndcg@10", reported=reported)
    shown = rendered(measure_table(certificate.measures, width), width)
    assert max(map(len, shown.splitlines())) <= width
    assert shown.count("reported") == 2
    assert shown.count("pass") == 1
    assert "MRR@10" in shown
    assert "…" not in shown


def test_a_certificate_is_shown_with_its_measures_where_there_are_several(make_certificate, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    show_certificate(make_certificate(reported=["f1"]))
    assert "reported" in capsys.readouterr().out
    show_certificate(make_certificate())
    assert "reported" not in capsys.readouterr().out


def test_engines_are_named_shortly():
    assert engine_name("openvino-2026.4.1/int8/f32") == "openvino int8"
    assert engine_name("odd") == "odd"


def test_the_sentence_says_what_passed_and_whether_it_pays(ladder, make_certificate):
    assert verdict_sentence(ladder, "int8-qat").startswith("int8-qat passes: ")
    assert "does not pay" not in verdict_sentence(ladder, "int8-qat")
    slow = make_certificate(fp32_ms=0.9)
    assert "INT8 does not pay on this machine" in verdict_sentence([slow], "int8-qat")


def test_the_sentence_names_the_nearest_rung_where_none_passed(make_certificate):
    near, far = make_certificate(rung="int8-qat", lost=10), make_certificate(rung="int8-ptq-max", lost=100)
    sentence = verdict_sentence([make_certificate(rung="fp32"), far, near], None)
    assert "No INT8 rung" in sentence
    assert "nearest is int8-qat" in sentence
    assert "would pass" not in sentence


def test_a_rung_that_dev_left_behind_is_not_called_the_nearest(make_certificate):
    lucky = make_certificate(rung="int8-ptq-mse", version="")
    sentence = verdict_sentence([lucky, make_certificate(rung="int8-ptq-max", lost=100)], None)
    assert "nearest is int8-ptq-max" in sentence
    assert "int8-ptq-mse would pass" in sentence
