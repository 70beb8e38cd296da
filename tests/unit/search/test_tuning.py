from dataclasses import replace

import pytest

from octavo.errors import InputError, ReleaseError
from octavo.search.build import Change, build_index
from octavo.search.embedder import ReleaseEmbedder
from octavo.search.evaluate import evaluate
from octavo.search.index import open_index
from octavo.search.judged import Judged
from octavo.search.pairs import pair_of
from octavo.search.settings import Tried
from octavo.search.tuning import WEIGHTS, best_weight, tune
from octavo.store.model import load
from octavo.types import Interval

NOTHING = Interval(0.0, 0.0, 0.0)
CORPUS = {f"d{i}": text for i, text in enumerate(["book a table", "the weather", "cancel it", "play music", "off"])}
JUDGED = Judged(
    ids=["q1", "q2", "q3"],
    queries=["a table", "play some music", "weather today"],
    relevance=[{"d0": 1.0}, {"d3": 2.0, "d0": 1.0}, {"d1": 1.0}],
    left_out=0,
    sha256="c" * 64,
)


def tried(*values):
    return [Tried(step / 10, Interval(value, value, value), NOTHING) for step, value in enumerate(values)]


def test_the_best_weight_is_taken_and_of_equal_ones_the_smallest():
    assert best_weight(tried(0.5, 0.7, 0.6)) == 0.1
    assert best_weight(tried(0.5, 0.7, 0.7)) == 0.1
    assert best_weight(tried(0.7, 0.7, 0.2)) == 0.0


@pytest.fixture
def store(publish_stack):
    return publish_stack()


@pytest.fixture
def index(store, write_corpus, tmp_path):
    with load(store / "embed" / "1", threads=1) as model:
        build_index(tmp_path / "index", Change(write_corpus(CORPUS)), ReleaseEmbedder(model), store=store)
    return open_index(tmp_path / "index")


def test_judgements_about_another_corpus_are_refused_before_anything_is_computed(index, store):
    other = replace(JUDGED, relevance=[{"x0": 1.0}, {"x3": 2.0}, {"x1": 1.0}])
    with pytest.raises(InputError, match="none of the 3 relevant documents is in the index, such as 'x0'"):
        tune(index, other, store / "nowhere", store / "nowhere")


def test_every_weight_is_worth_what_an_evaluation_says(index, store):
    made = tune(index, JUDGED, store / "embed" / "2", store / "rank" / "2", rerank=3, threads=1)
    assert tuple(one.weight for one in made.tried) == WEIGHTS
    assert made.tried[0].gain.value == 0.0
    assert made.weight == best_weight(made.tried)
    assert (made.ranker, made.rerank, made.queries) == ("rank", 3, 3)
    assert made.index_sha256 == index.manifest.index_sha256
    assert set(made.releases) == {"embed", "rank"}
    for place in (3, 10):
        told = evaluate(
            index,
            JUDGED,
            pair_of(store, "embed"),
            pair_of(store, "rank"),
            rerank=3,
            rank_weight=WEIGHTS[place],
            threads=1,
        )
        assert told.stages["ranked"].int8["ndcg@10"] == made.tried[place].ndcg
    assert told.stages["fused"].int8["ndcg@10"] == made.tried[0].ndcg


def test_a_release_that_may_not_query_is_refused(index, publish_stack, tmp_path):
    other = publish_stack(["embed", "rank"], covers=False, store=tmp_path / "other")
    with pytest.raises(ReleaseError):
        tune(index, JUDGED, other / "embed" / "2", other / "rank" / "2", threads=1)
