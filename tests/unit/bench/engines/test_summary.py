import json
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.engines.cell import CaseResult, CellResult, Timing
from bench.engines.plan import OFFLINE, Case, Cell
from bench.engines.plot import figure, ticks_between
from bench.engines.summary import Goal, goals_of, summary_of, times_faster
from bench.engines.table import case_table, goal_table, missing_lines, report

KEYS = {
    "native_vs_torch_fp32",
    "native_vs_best_openvino_int8_padded",
    "native_vs_openvino_packed",
    "peak_share_b32",
    "ms_per_query_text_in_2_threads",
    "isa",
    "cpu",
}
ONE, BATCH = Case("short", 1), Case("short", 32)
STREAM = Case("short", OFFLINE, is_text=True)
MS = {
    "torch-fp32": 12.0,
    "openvino-int8": 3.0,
    "openvino-int8-dynamic": 2.5,
    "openvino-packed": 1.5,
    "ctranslate2-int8": 1.0,
    "native": 0.5,
    "native-per-token": 0.52,
}


def _case(case, ms, peak="vnni int8 512"):
    drift = np.array([1.0, 2.0, 1.5])
    timings = {name: Timing((value * drift).tolist(), value * 2) for name, value in ms.items()}
    # 0.2 GOP in 0.5 ms are 400 GOP/s; the machine slows down with all others.
    return CaseResult(case, 1, 11.0, [0.2] * 3, timings, {}, {peak: (500 / drift).tolist()})


@pytest.fixture
def cells():
    peers = tuple(MS)
    one = CellResult(
        Cell("minilm-l6", 1, 1, (ONE, BATCH), peers),
        [_case(ONE, MS), _case(BATCH, {name: value / 2 for name, value in MS.items()})],
        {"native": "native-0.1.0/int8/avx512_vnni"},
        dict.fromkeys(peers, 0.99),
        {"sentence-transformers-openvino-int8": "needs | another package"},
    )
    two = CellResult(Cell("minilm-l6", 2, 2, (STREAM,), peers), [_case(STREAM, {"native": 0.2})], {}, {}, {})
    return [one, two]


def _without_native(cells):
    def stripped(case):
        timings = {name: timing for name, timing in case.timings.items() if not name.startswith("native")}
        return CaseResult(case.case, 1, 11.0, case.gop, timings, {}, case.peaks)

    missing = {"native": "this version of Octavo has no native engine"}
    return [CellResult(c.cell, [stripped(case) for case in c.cases], {}, c.cosines, missing) for c in cells]


def test_the_quoted_numbers(cells):
    summary = summary_of(cells, "some cpu")
    assert set(summary) >= KEYS
    assert summary["native_vs_torch_fp32"] == {"b1": 24.0, "b32": 24.0}
    assert summary["native_vs_best_openvino_int8_padded"] == {"b1": 5.0, "b32": 5.0}  # the faster of the two
    assert summary["native_vs_openvino_packed"] == {"b1": 3.0, "b32": 3.0}
    assert summary["native_vs_best_peer"] == {"b1": 2.0, "b32": 2.0}  # our other engines are no peers
    assert summary["peak_share_b1"] == pytest.approx(0.8)
    assert summary["ms_per_query_text_in_2_threads"] == pytest.approx(0.3)
    assert (summary["isa"], summary["cpu"]) == ("avx512_vnni", "some cpu")
    assert summary["intervals"]["native_vs_torch_fp32"]["b1"] == [24.0, 24.0]
    assert summary["notes"] == {}


def test_what_cannot_be_measured_is_null_with_a_note(cells):
    summary = summary_of(_without_native(cells), "some cpu")
    assert set(summary) >= KEYS
    assert summary["native_vs_torch_fp32"] == {"b1": None, "b32": None}
    for key in ("peak_share_b32", "ms_per_query_text_in_2_threads", "isa"):
        assert summary[key] is None
        assert "no native engine" in summary["notes"][key]
    assert "no native engine" in summary["notes"]["native_vs_openvino_packed.b32"]


@pytest.mark.parametrize("kept", [0, 1])
def test_the_summary_is_one_json_line_whatever_was_measured(cells, kept):
    line = json.dumps(summary_of(cells[:kept], "some cpu"))
    assert "\n" not in line
    assert set(json.loads(line)) >= KEYS


def test_a_missing_peer_is_named(cells):
    assert times_faster(cells, "minilm-l6", ONE, ("absent",)) == (None, "no such peer ran: none was asked for")
    assert times_faster(cells, "12x768", ONE, None) == (None, "not measured in this run")


def test_the_share_of_the_peak_is_that_of_the_vnni_kernels(cells):
    ms = MS | {"native": 0.1, "native-vnni": 0.5}
    one = cells[0]
    case = _case(BATCH, ms)
    case.peaks["amx int8"] = [4000.0, 2000.0, 4000 / 1.5]
    with_amx = CellResult(one.cell, [case], {"native": "native-0.1.0/int8/amx"}, {}, {})
    summary = summary_of([with_amx], "some cpu")
    assert summary["peak_share_b32"] == pytest.approx(0.8)
    assert summary["notes"]["peak_share_b32"] == "of contender native-vnni"
    assert summary["amx_peak_share_b32"] == pytest.approx(0.5)


def test_without_a_loop_there_is_no_share(cells):
    one = cells[0]
    case = CaseResult(BATCH, 1, 11.0, [0.2] * 3, one.cases[1].timings, {}, {})
    missing = {"vnni int8 512": "not measured: no C compiler (cc, gcc or clang) was found"}
    summary = summary_of([CellResult(one.cell, [case], one.engines, {}, missing)], "some cpu")
    assert summary["peak_share_b32"] is None
    assert "no C compiler" in summary["notes"]["peak_share_b32"]


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        (Goal("faster", 2.0, 2.0), "met"),
        (Goal("faster", 2.0, 1.99), "missed"),
        (Goal("ms", 0.35, 0.35, is_limit=True), "met"),
        (Goal("ms", 0.35, 0.36, is_limit=True), "missed"),
        (Goal("faster", 2.0, None), "not measured"),
    ],
)
def test_a_goal_is_met_missed_or_unknown(goal, verdict):
    assert goal.verdict == verdict
    assert verdict in goal_table([goal])


def test_goals_are_judged_by_what_was_measured(cells):
    verdicts = {goal.name: goal.verdict for goal in goals_of(cells)}
    assert verdicts["minilm-l6, short, batch 1: times faster than PyTorch FP32"] == "met"
    assert verdicts["12x768, short, batch 1: times faster than the best peer"] == "not measured"
    assert verdicts["minilm-l6, short, batch 32: cost of scales per token"] == "met"
    assert len(verdicts) == len(goals_of(cells))


def test_the_table_ranks_by_speed_and_compares_with_the_native_engine(cells):
    lines = case_table(cells[0], cells[0].cases[0]).splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
    assert names == sorted(MS, key=MS.__getitem__)
    assert "24.00 [24.00, 24.00]" in lines[-1]


def test_the_report_says_what_does_not_run(cells):
    page = report(cells, goals_of(cells), "# Header")
    assert "| sentence-transformers-openvino-int8 | needs \\| another package |" in page
    assert list(missing_lines(cells + cells)) == ["sentence-transformers-openvino-int8: needs | another package"]


def test_a_process_that_died_is_reported():
    lost = CellResult(Cell("3x384", 1, 1, (ONE,), ("native",)), [], {}, {}, {"native": "ended with -11"})
    assert "ended with -11" in report([lost], goals_of([lost]), "# Header")
    assert summary_of([lost], "cpu")["native_vs_torch_fp32"] == {"b1": None, "b32": None}


def test_the_figure_is_well_formed_and_names_everyone(cells):
    root = ElementTree.fromstring(figure(cells[0]))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(MS) <= set(texts)
    assert sum(element.get("class") == "dot ours" for element in root.iter()) == 4


def test_ticks_surround_the_values():
    assert list(ticks_between(0.3, 4.0)) == [0.2, 0.5, 1.0, 2.0, 5.0]
    assert list(ticks_between(1.0, 1.0)) == [1.0, 1.0]
