"""`octavo cost` and `octavo trace`, on a tiny release."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("verb", [("cost",), ("trace", "synth"), ("trace", "from-log")])
def test_the_help_teaches(octavo, verb):
    ran = octavo(*verb, "--help")
    assert ran.code == 0
    assert f"\n   octavo {' '.join(verb)}" in ran.out.replace("│", " ")
    assert "--json" in ran.out
    assert "Exit codes" in ran.out


def test_a_made_up_trace_is_priced(octavo, publish_tiny, tmp_path):
    trace = tmp_path / "trace.jsonl"
    made = octavo("trace", "synth", "--out", trace, "--queries", 100, "--qps", 50, "--json").document
    assert made["queries"] == 100
    assert len(trace.read_text("utf-8").splitlines()) == 100
    arguments = ["cost", publish_tiny(), "--trace", trace, "--budget", 0.1, "--p99-ms", 10_000, "--core-hour", 0.5]
    ran = octavo(*arguments)
    assert ran.code == 0
    assert "openvino bucketed fp32" in ran.out
    assert "saved against" in ran.out
    assert "1 core at" in ran.out
    assert "(simulated)" in ran.out
    assert "PyTorch took no part" in ran.out
    document = octavo(*arguments, "--json").document
    assert document["core_hour"] == 0.5
    assert set(document["engines"]["engine"]["core_hours_per_100m"]) == {"alone", "batched", "at_bound"}
    assert set(document["saved"]["best_fp32"]["batched"]) == {"value", "low", "high"}


def test_a_bound_that_nothing_keeps_is_said(octavo, publish_tiny, tmp_path):
    log = tmp_path / "queries.txt"
    log.write_text("book a table\nplay some music\n" * 9, "utf-8")
    ran = octavo("cost", publish_tiny(), "--trace", log, "--qps", 10, "--p99-ms", 0.01, "--budget", 0.1)
    assert ran.code == 0
    assert "No number of cores keeps 99 of 100 answers within 0.010 ms here." in ran.out


def test_a_trace_out_of_an_access_log(octavo, tmp_path):
    log = tmp_path / "access.log"
    log.write_text(
        '1.1.1.1 - - [10/Oct/2026:13:55:36 -0700] "GET /s?query=red+shoes HTTP/1.1" 200 2\n'
        '1.1.1.1 - - [10/Oct/2026:13:55:38 -0700] "GET /s?query=hat HTTP/1.1" 200 2\n'
        "nonsense\n",
        "utf-8",
    )
    ran = octavo("trace", "from-log", log, "--parameter", "query", "--out", tmp_path / "trace.jsonl")
    assert ran.code == 0
    assert "2 queries in" in ran.out
    assert "1 line without a query passed over" in ran.out
    texts = [json.loads(line)["text"] for line in (tmp_path / "trace.jsonl").read_text("utf-8").splitlines()]
    assert texts == ["red shoes", "hat"]


def test_texts_of_a_log_are_asked(octavo, tmp_path):
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "red shoes"}\n{"query": "hat"}\n{"text": "hat"}\n', "utf-8")
    ran = octavo("trace", "synth", "--out", tmp_path / "t.jsonl", "--texts", texts, "--queries", 40)
    assert ran.code == 0
    asked = {json.loads(line)["text"] for line in (tmp_path / "t.jsonl").read_text("utf-8").splitlines()}
    assert asked == {"red shoes", "hat"}


def test_bad_input_is_a_sentence(octavo, publish_tiny, tmp_path):
    empty, untold = tmp_path / "empty.jsonl", tmp_path / "untold.txt"
    empty.write_text("", "utf-8")
    untold.write_text("a\nb\n", "utf-8")
    folder, out = publish_tiny(), empty / "trace.jsonl"
    for arguments, message in (
        (["cost", folder, "--trace", empty], "there is no query in it"),
        (["cost", folder, "--trace", tmp_path / "absent.jsonl"], "no such file"),
        (["cost", folder, "--trace", untold], "Give a rate with --qps"),
        (["cost", tmp_path / "nowhere", "--trace", untold], "there is no such folder"),
        (["cost", folder, "--trace", untold, "--qps", 5, "--teacher", tmp_path], "cannot read this model"),
        (["trace", "from-log", untold, "--out", tmp_path / "t.jsonl"], "none of its 2 lines tells a query"),
        (["trace", "synth", "--out", out], "cannot be written"),
        (["trace", "synth", "--out", tmp_path / "t.jsonl", "--texts", empty], "there is no text in it"),
    ):
        ran = octavo(*arguments, "--json")
        assert ran.code == 2, (arguments, ran.err)
        assert message in ran.document["error"]["message"], arguments
