"""The cost of traffic, on a tiny release; how fast engines are is measured and not looked at."""

import json

import msgspec
import pytest

from octavo.certify.certificate import Speedup, SpeedupIntervals
from octavo.data.traces import Synthesis, synthetic_trace
from octavo.errors import InputError
from octavo.ladder.costing import _certified, inputs_of_lengths, traffic_cost
from octavo.text.tokenizer import Tokenizer
from octavo.types import Pair, Words

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in synthetic_trace(Synthesis(queries=200))), "utf-8")
    return path


def test_a_trace_is_replayed_by_the_release_and_by_fp32(publish_tiny, trace):
    made = traffic_cost(publish_tiny(), trace, budget_s=0.1, p99_ms=10_000)
    assert list(made.engines) == [
        "engine",
        *(f"openvino_{layout}_fp32" for layout in ("bucketed", "packed", "padded")),
        "onnxruntime_bucketed_fp32",
    ]
    assert (made.model, made.version, made.queries, made.rounds) == ("tiny", "2", 200, 3)
    assert made.qps == pytest.approx(100, rel=0.3)
    for one in made.engines.values():
        hours, money = one.core_hours_per_100m, one.money_per_100m
        assert hours["alone"] == pytest.approx(one.ms_alone * 1e8 / 3.6e6)
        assert money["batched"] == pytest.approx(0.04 * hours["batched"])
        assert one.cores == 1
        assert one.p99_ms > 0
        assert money["provisioned"] >= money["at_bound"]
    saved = made.saved["best_fp32"]
    assert saved.batched.low <= saved.batched.value <= saved.batched.high < 1
    assert saved.baseline in made.engines
    msgspec.json.encode(made)


def test_without_the_teacher_pytorch_is_as_the_certificate_has_it(publish_tiny, trace):
    made = traffic_cost(publish_tiny(), trace, budget_s=0.1)
    saved = made.saved["torch_fp32"]
    assert saved.is_certified
    assert saved.batched.value == saved.alone.value == pytest.approx(1 - 1 / 9)  # as `make_certificate` times them
    assert saved.at_bound is None
    assert "torch_fp32" not in made.engines
    assert any("its share is the certificate's, of 2026-01-02" in note for note in made.notes)


def test_a_certificate_of_before_has_speed_ups_alone(make_certificate):
    notes = []
    old = msgspec.structs.replace(make_certificate(), traffic=None)
    saved = _certified(old, notes)["torch_fp32"]
    assert saved.batched.value == saved.alone.value == pytest.approx(1 - 1 / 9)
    assert "time with all threads" in notes[0]
    unmeasured = msgspec.structs.replace(old, speedup_interval=SpeedupIntervals(), speedup_batch1=Speedup())
    assert _certified(unmeasured, notes) == {}
    assert "--teacher" in notes[1]


def test_pytorch_takes_part_where_the_teacher_is_given(publish_tiny, trace, make_folder):
    made = traffic_cost(publish_tiny(), trace, teacher=make_folder("bert"), budget_s=0.1)
    assert "torch_fp32" in made.engines
    assert made.saved["torch_fp32"].baseline == "torch_fp32"


def test_texts_a_rate_and_a_bound_that_nothing_keeps(publish_tiny, tmp_path):
    log = tmp_path / "queries.txt"
    log.write_text("book a table\nplay some music\n\nbook a table\n" * 20, "utf-8")
    with pytest.raises(InputError, match=r"does not say when queries came. Give a rate with --qps"):
        traffic_cost(publish_tiny(), log)
    made = traffic_cost(tmp_path / "store" / "tiny", log, qps=50, p99_ms=1e-6, budget_s=0.1)
    assert made.qps == pytest.approx(50)
    assert made.repeats == pytest.approx(1 - 2 / 60)
    assert made.engines["engine"].cores is None
    assert made.engines["engine"].core_hours_per_100m["at_bound"] is None
    assert made.saved["best_fp32"].at_bound is None


def test_a_release_without_its_reference_is_measured_alone(publish_tiny, trace):
    made = traffic_cost(publish_tiny(reference=False), trace, budget_s=0.1)
    assert list(made.engines) == ["engine"]
    assert list(made.saved) == ["torch_fp32"]  # the certificate's
    assert any("names no teacher" in note for note in made.notes)


@pytest.mark.parametrize(
    "kind", [lambda text: text, lambda text: Pair(text, text), lambda text: Words(tuple(text.split()))]
)
def test_inputs_are_made_up_to_a_length(make_folder, kind):
    tokenizer = Tokenizer.from_folder(make_folder("bert"), max_length=16)
    made = inputs_of_lengths(tokenizer, [kind("book a table for two")], [6, 11, 16, 99, 1])
    assert type(made[0]) is type(kind("a b"))
    lengths = tokenizer.encode(made).lengths.tolist()
    assert lengths[:4] == [6, 11, 16, 16]
    assert lengths[4] <= 6, "special tokens and a word are the least"


def test_words_that_are_not_one_token_make_no_length(make_folder):
    tokenizer = Tokenizer.from_folder(make_folder("bert"), max_length=16)
    with pytest.raises(InputError, match="Give a trace with texts"):
        inputs_of_lengths(tokenizer, ["!!!", "..."], [5])
