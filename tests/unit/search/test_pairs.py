import pytest

from octavo.errors import InputError
from octavo.search.build import Change, build_index
from octavo.search.embedder import ReleaseEmbedder
from octavo.search.index import open_index
from octavo.search.pairs import pair_of, pairs_of, ranker_of
from octavo.store.model import load


@pytest.fixture
def store(publish_stack):
    return publish_stack(["embed", "rank"])


def test_pairs_and_rankers_of_a_store(store, publish_stack, tmp_path):
    pair = pair_of(store, "rank")
    assert (pair.model, pair.fp32, pair.int8) == ("rank", store / "rank" / "1", store / "rank" / "2")
    assert pair_of(store, "rank", "1").int8 == pair.fp32
    assert ranker_of(store, None) == "rank"
    with pytest.raises(InputError, match="no ranker 'embed'"):
        ranker_of(store, "embed")
    assert ranker_of(publish_stack(["embed"], store=tmp_path / "other"), None) is None


def test_pairs_of_an_index_are_its_embedder_s_and_the_ranker_s(store, publish_stack, write_corpus, tmp_path):
    with load(store / "embed" / "1", threads=1) as model:
        build_index(tmp_path / "index", Change(write_corpus({"d": "a"})), ReleaseEmbedder(model), store=store)
    index = open_index(tmp_path / "index")
    assert pairs_of(index, None, {}) == (pair_of(store, "embed"), pair_of(store, "rank"))
    assert pairs_of(index, None, {"rank": "1"})[1] == pair_of(store, "rank", "1")
    assert pairs_of(index, None, {}, ranks=False) == (pair_of(store, "embed"), None)
    with pytest.raises(InputError, match="'rank' takes no part"):
        pairs_of(index, None, {"rank": "1"}, ranks=False)
    other = publish_stack(["embed"], store=tmp_path / "other")
    assert pairs_of(index, other, {}) == (pair_of(other, "embed"), None)
