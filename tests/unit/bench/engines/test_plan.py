from bench.engines.models import MODELS
from bench.engines.peers import PEERS
from bench.engines.plan import (
    BATCHES,
    OFFLINE,
    PARTS,
    THREADS,
    Case,
    Effort,
    all_cells,
    part_cells,
    quick_cells,
    stream_length,
)
from bench.engines.traces import TRACES


def test_a_quick_run_has_the_cases_of_the_quoted_numbers():
    cells = quick_cells(list(PEERS))
    cases = {(cell.threads, case) for cell in cells for case in cell.cases if "native" in cell.peers}
    assert {(1, Case("short", 1)), (1, Case("short", 32)), (2, Case("short", OFFLINE, is_text=True))} <= cases
    assert {cell.model for cell in cells} == {"minilm-l6"}


def test_without_the_native_engine_its_own_cell_is_empty():
    assert [cell.peers for cell in quick_cells(["ctranslate2-int8"])][1:] == [("ctranslate2-int8",), ()]


def test_a_quick_run_knows_its_contenders():
    assert all(set(cell.peers) <= set(PEERS) for cell in quick_cells(list(PEERS)))
    assert len(quick_cells(list(PEERS))[1].peers) == 5


def test_parts_have_the_cases_of_their_goals_and_known_contenders():
    cells = {part: part_cells(part, None) for part in PARTS}
    assert {(cells["wide"][0].model, case) for case in cells["wide"][0].cases} == {
        ("12x768", Case("short", 1)),
        ("12x768", Case("short", 32)),
    }
    assert Case("passages-256", 8) in cells["passages"][0].cases
    assert all(set(cell.peers) <= set(PEERS) for part in cells.values() for cell in part)
    assert part_cells("wide", ["native"])[0].peers == ("native",)


def test_the_grid_has_every_model_trace_and_batch():
    cells = all_cells(list(MODELS), list(TRACES), BATCHES, THREADS, ["native"])
    measured = {(c.model, c.threads, case.trace, case.batch) for c in cells for case in c.cases if not case.is_text}
    expected = {(m, n, t, b) for m in MODELS for n in THREADS for t in TRACES for b in BATCHES}
    assert expected - measured == {("12x768", n, "passages-256", 64) for n in THREADS}
    assert {cell.lanes for cell in cells if cell.threads == 2} == {1, 2}


def test_lanes_share_the_threads_and_take_streams_alone():
    cells = all_cells(["3x384"], ["short"], (1, OFFLINE), (1, 2), ["native"])
    assert [(cell.threads, cell.lanes) for cell in cells] == [(1, 1), (2, 1), (2, 2)]
    assert all(case.batch == OFFLINE for case in cells[-1].cases)


def test_streams_of_longer_texts_have_fewer_but_fill_a_batch():
    effort = Effort(rounds=1, case_s=1, singles=1, stream=1024)
    texts = {name: stream_length(effort, Case(name, OFFLINE)) for name in TRACES}
    assert texts == {"short": 1024, "medium": 352, "passages-94": 119, "passages-256": 64}
