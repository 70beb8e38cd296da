from pathlib import Path

import numpy as np
import pytest

from octavo.certify.certificate import Certificate, Hashes
from octavo.certify.certifying import Evidence, Identity, Timing, certificate_from
from octavo.certify.latency import measure
from octavo.engines.hardware import Hardware
from octavo.ladder.card import model_card
from octavo.recipe import DataFiles, Recipe
from octavo.tasks.base import Answers
from octavo.types import Measure

DATA = DataFiles(train=Path("train.jsonl"), dev=Path("dev.jsonl"), test=Path("test.jsonl"))
RECIPE = Recipe(teacher=Path("teacher"), data=DATA)


def certificate_of(*metrics: str, unit: str) -> Certificate:
    """A thousand units, all answered right by both models."""
    right = np.ones(1000, np.float32)
    measures = tuple(Measure(name, right, right, gates="teacher" in name) for name in metrics)
    answers = Answers(measures, ["a"] * 1000, right, None, right[:, np.newaxis])
    evidence = Evidence(["text"] * 1000, ["a"] * 1000, [3] * 1000, answers, answers, unit=unit)
    ticks = iter(range(10**6))
    timing = Timing(measure({"engine": len}, ["text"], rounds=3, clock=lambda: next(ticks))["engine"])
    identity = Identity(
        model="retriever",
        version="2",
        task="embed",
        rung="int8-qat",
        metric=metrics[0],
        engine_id="openvino-2026.4.1/int8/f32",
        model_bytes=1,
        sha256=Hashes("a" * 64, "b" * 64, "c" * 64),
        seeds={},
        hardware=Hardware("a processor", 2, (), 2**30, "Linux", "3.12", {}),
        created="2026-01-02T03:04:05Z",
    )
    return certificate_from(evidence, identity, timing, 0.01)


def test_one_measure_has_one_table():
    card = model_card(RECIPE, certificate_of("accuracy", unit="row"))
    assert "| | accuracy | 95% interval |" in card
    assert "| teacher | 100.00 | " in card
    assert "Measured on 1,000 held-out rows, margin 1 points" in card
    assert "also measured" not in card
    assert 'model.predict(["a query"])[0].line()' in card


def test_other_measures_follow_with_what_they_decide():
    certificate = certificate_of("ndcg@10", "ndcg@10 with the teacher's documents", "mrr@10", unit="query")
    card = model_card(RECIPE, certificate, example='{"text": "a query"}')
    assert "| | nDCG@10 | 95% interval |" in card
    also = card[card.index("| also measured |") :].split("\n\n")[0].splitlines()
    assert [line.count("|") for line in also] == [6] * 4
    assert also[2].startswith("| nDCG@10 with the teacher's documents | 100.00 | 100.00 | 0.00 [")
    assert also[2].endswith("| pass |")
    assert also[3].endswith("| reported |")
    assert "1,000 held-out queries" in card
    assert 'model.predict([{"text": "a query"}])' in card


def test_no_line_breaks_a_table():
    with_others = model_card(RECIPE, certificate_of("f1", "accuracy", unit="sentence"))
    tables = [block for block in with_others.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    assert all(line.startswith("|") for table in tables for line in table.strip().splitlines())


@pytest.mark.parametrize("example", ['"a query"', '("a query", "a document")'])
def test_the_example_is_python(example):
    card = model_card(RECIPE, certificate_of("accuracy", unit="row"), example=example)
    source = card.split("```python\n")[1].split("```")[0]
    compile(source, "card", "exec")
