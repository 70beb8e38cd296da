import asyncio

import numpy as np
import pytest

from octavo.errors import ReleaseError
from octavo.progress import Silent
from octavo.search.answers import SearchRequest
from octavo.search.build import Change, build_index
from octavo.search.direct import DirectService
from octavo.search.embedder import ReleaseEmbedder
from octavo.search.evaluate import evaluate, measures_of
from octavo.search.index import open_index
from octavo.search.judged import Judged
from octavo.search.pairs import pair_of
from octavo.search.pipeline import Searcher, may_query_from_store, stack_from
from octavo.search.rankings import STAGES, pair_scores, recalled, reordered
from octavo.search.report import evaluation_html
from octavo.store.model import load
from octavo.types import Interval, Verdict

CORPUS = {
    f"d{i}": text for i, text in enumerate(["book a table", "the weather", "cancel it", "play music", "turn off"])
}
JUDGED = Judged(
    ids=["q1", "q2", "q3"],
    queries=["a table", "play some music", "weather today"],
    relevance=[{"d0": 1.0}, {"d3": 2.0, "d0": 1.0}, {"d1": 1.0, "absent": 1.0}],
    left_out=1,
    sha256="c" * 64,
)


@pytest.fixture
def store(publish_stack):
    return publish_stack()


@pytest.fixture
def index(store, write_corpus, tmp_path):
    with load(store / "embed" / "1", threads=1) as model:
        build_index(tmp_path / "index", Change(write_corpus(CORPUS)), ReleaseEmbedder(model), store=store)
    return open_index(tmp_path / "index")


@pytest.fixture
def evaluation(index, store):
    return evaluate(index, JUDGED, pair_of(store, "embed"), pair_of(store, "rank"), threads=1, margin=0.5)


def test_every_stage_has_both_precisions_and_their_difference(evaluation):
    assert tuple(evaluation.stages) == STAGES
    for one in evaluation.stages.values():
        for name in ("ndcg@10", "mrr@10", "recall@100"):
            values = one.fp32[name], one.int8[name]
            assert all(0 <= value.low <= value.value <= value.high <= 1 for value in values)
            assert one.difference[name].value == pytest.approx(values[1].value - values[0].value, abs=1e-6)
    words = evaluation.stages["bm25"]
    assert words.fp32 == words.int8
    assert (words.verdict, words.difference["ndcg@10"]) == (Verdict.PASS, Interval(0.0, 0.0, 0.0))
    assert evaluation.stages["bm25"].fp32["mrr@10"].value == 1.0
    assert evaluation.models["rank"]["fp32"].startswith("1 · openvino-")
    assert evaluation.models["embed"]["int8"].startswith("2 · openvino-")


def test_what_the_index_does_not_have_counts_as_missed(evaluation):
    assert (evaluation.unknown_documents, evaluation.left_out, evaluation.queries) == (1, 1, 3)
    assert evaluation.stages["fused"].int8["recall@100"].value == pytest.approx(2.5 / 3)


@pytest.mark.parametrize("weight", [0.3, 0.7, 1.0])
def test_the_pipeline_gives_the_answers_that_are_evaluated(index, store, weight):
    with load(store / "embed", threads=1) as embedder, load(store / "rank", threads=1) as ranker:
        found = recalled(index, embedder, JUDGED.queries, "", Silent())
        logits = pair_scores(index, ranker, JUDGED.queries, found.rankings["fused"], 3, "", Silent())
    ranked = reordered(found, logits, weight)
    with DirectService.from_store(store, threads=1) as service:
        stack = stack_from(index, service.models())
        searcher = Searcher(index, service, stack, may_query_from_store(index, store), rank_weight=weight)
        for query, expected in zip(JUDGED.queries, ranked, strict=True):
            answer = asyncio.run(searcher.search(SearchRequest(query, rerank=3)))
            assert not answer.degraded
            names = {number: document.id for number, document in index.documents(expected.tolist()).items()}
            assert [result.id for result in answer.results] == [names[number] for number in expected.tolist()]


def test_without_a_ranker_there_are_three_stages(index, store):
    made = evaluate(index, JUDGED, pair_of(store, "embed"), None, threads=1)
    assert tuple(made.stages) == STAGES[:3]
    assert made.rerank == 0


def test_a_ranker_of_no_weight_is_not_asked(index, store):
    made = evaluate(index, JUDGED, pair_of(store, "embed"), pair_of(store, "rank"), threads=1, rank_weight=0.0)
    assert tuple(made.stages) == STAGES[:3]
    assert "rank" not in made.models
    assert made.notes[0].startswith("Nothing is ranked")


def test_the_report_says_what_the_ranker_weighs(index, store):
    made = evaluate(index, JUDGED, pair_of(store, "embed"), pair_of(store, "rank"), threads=1, rank_weight=0.3)
    assert "weight 0.3 beside the fused scores" in evaluation_html(made, title="t", reproduce="r")


def test_a_query_that_is_too_long_for_the_ranker_is_cut_as_in_a_search(index, store):
    long = Judged(["q1"], ["book a table " * 40], [{"d0": 1.0}], 0, "c" * 64)
    made = evaluate(index, long, pair_of(store, "embed"), pair_of(store, "rank"), threads=1)
    assert made.stages["ranked"].int8["recall@100"].value == 1.0


def test_recall_counts_a_hundred_and_the_others_ten():
    ranking = np.arange(200)
    found = measures_of([ranking] * 2, [{99: 1.0, 100: 1.0}, {9: 1.0, 10: 1.0}])
    assert found["recall@100"].gains.tolist() == [0.5, 1.0]
    assert found["mrr@10"].gains.tolist() == [0.0, pytest.approx(0.1)]


def test_a_stage_that_does_harm_is_said_to(index, store):
    from octavo.search.evaluate import _notes

    good, bad = [np.arange(20)] * 40, [np.arange(20)[::-1]] * 40
    relevance = [{0: 1.0}] * 40
    (note,) = _notes({"bm25": good, "vectors": good, "fused": good, "ranked": bad}, relevance)
    assert "ranked is worse than fused" in note
    assert "--rerank 0" in note
    assert _notes({"bm25": good, "vectors": good, "fused": good}, relevance) == []


def test_releases_that_do_not_fit_are_refused(index, publish_stack, tmp_path):
    other = publish_stack(["embed"], covers=False, store=tmp_path / "other")
    with pytest.raises(ReleaseError, match="index"):
        evaluate(index, JUDGED, pair_of(other, "embed"), None, threads=1)
    evaluate(index, JUDGED, pair_of(other, "embed"), None, threads=1, allow_uncertified=True)


def test_the_page_is_whole_and_escapes_what_comes_from_outside(evaluation):
    page = evaluation_html(evaluation, title="a <b> index", reproduce="octavo search evaluate <x>")
    assert page.startswith("<!doctype html>")
    assert "<b> index" not in page
    assert "octavo search evaluate &lt;x&gt;" in page
    assert page.count("<table>") == 3
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "1 relevant document, counted as missed" in page
    assert {Verdict.PASS: "as well as FP32", Verdict.INCONCLUSIVE: "do not decide"}[
        list(evaluation.stages.values())[-1].verdict
    ] in page
