import numpy as np
import pytest

from octavo.errors import ReleaseError
from octavo.progress import Silent
from octavo.search import vectors as module
from octavo.search.vectors import Kind, VectorBuilder, Vectors, kind_for, unit_vectors

KINDS = {Kind.FLAT: (10**6, 10**6), Kind.HNSW: (0, 10**6), Kind.HNSW_SQ8: (0, 0)}


@pytest.fixture(params=list(Kind))
def kind(request, monkeypatch):
    """Let any number of vectors be kept in one way."""
    monkeypatch.setattr(module, "_MOST_FLAT", KINDS[request.param][0])
    monkeypatch.setattr(module, "_MOST_WHOLE", KINDS[request.param][1])
    return request.param


def random_vectors(count, width=16, seed=0):
    return unit_vectors(np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32))


def built(tmp_path, vectors, first=0, name="v"):
    builder = VectorBuilder.starting(vectors.shape[1], len(vectors), vectors)
    for _ in builder.add_all(vectors, first, Silent()):
        pass
    return written(builder, tmp_path, name)


def written(builder, tmp_path, name="v"):
    builder.write(tmp_path / f"{name}.faiss", tmp_path / f"{name}.numbers")
    return Vectors.read(tmp_path / f"{name}.faiss", tmp_path / f"{name}.numbers")


def recall(found, documents, queries, k, numbers=None):
    numbers = np.arange(len(documents)) if numbers is None else numbers
    best = numbers[np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :k]]
    return np.mean(
        [len(set(hits.numbers.tolist()) & set(row.tolist())) / k for hits, row in zip(found, best, strict=True)]
    )


def test_kinds_by_size():
    assert [kind_for(n) for n in (0, 5_000, 5_001, 500_000, 500_001)] == [
        *(Kind.FLAT, Kind.FLAT),
        *(Kind.HNSW, Kind.HNSW, Kind.HNSW_SQ8),
    ]


def test_the_nearest_are_found(tmp_path, kind):
    documents, queries = random_vectors(600), random_vectors(20, seed=1)
    vectors = built(tmp_path, documents, first=1000)
    assert (vectors.kind, vectors.width, len(vectors)) == (kind, 16, 600)
    found = vectors.nearest(queries, 10)
    assert recall(found, documents, queries, 10, np.arange(1000, 1600)) > (0.999 if kind is Kind.FLAT else 0.95)
    assert all((np.diff(hits.scores) <= 0).all() for hits in found)


def test_what_is_dead_is_not_found_and_new_ones_are(tmp_path, kind):
    documents, more = random_vectors(300), random_vectors(50, seed=2)
    builder = VectorBuilder.going_on(built(tmp_path, documents), np.arange(0, 60), 290)
    for _ in builder.add_all(more, 300, Silent()):
        pass
    vectors = written(builder, tmp_path, "next")
    assert len(vectors) == 290
    assert vectors._index.ntotal == 350, "the dead keep their places"
    alive = np.concatenate([documents[60:], more])
    queries = random_vectors(20, seed=3)
    found = vectors.nearest(queries, 10)
    assert not any((hits.numbers < 60).any() for hits in found)
    assert recall(found, alive, queries, 10, np.arange(60, 350)) > 0.9
    assert len(vectors.nearest(queries, 1000)[0].numbers) <= 290


def test_too_many_dead_are_left_out_by_building_anew(tmp_path, kind):
    documents = random_vectors(200)
    vectors = written(VectorBuilder.going_on(built(tmp_path, documents), np.arange(0, 100), 100), tmp_path, "next")
    assert vectors._index.ntotal == len(vectors) == 100
    (hits,) = vectors.nearest(documents[150:151], 1)
    assert hits.numbers.tolist() == [150]


def test_growing_beyond_a_kind_builds_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_FLAT", 100)
    documents = random_vectors(150)
    flat = built(tmp_path, documents[:100])
    builder = VectorBuilder.going_on(flat, np.empty(0, np.int64), 150)
    builder.add(documents[100:], np.arange(100, 150))
    vectors = written(builder, tmp_path, "next")
    assert (flat.kind, vectors.kind) == (Kind.FLAT, Kind.HNSW)
    assert recall(vectors.nearest(documents, 1), documents, documents, 1) > 0.98


def test_none_are_found_among_none(tmp_path):
    vectors = built(tmp_path, np.empty((0, 8), np.float32))
    assert vectors.nearest(random_vectors(2, 8), 5)[0].numbers.tolist() == []


def test_files_that_do_not_fit_are_refused(tmp_path):
    built(tmp_path, random_vectors(10))
    np.arange(9).astype("<i8").tofile(tmp_path / "v.numbers")
    with pytest.raises(ReleaseError, match="10 vectors for 9 places"):
        Vectors.read(tmp_path / "v.faiss", tmp_path / "v.numbers")
    (tmp_path / "v.faiss").write_bytes(b"no index at all")
    with pytest.raises(ReleaseError, match="cannot be read"):
        Vectors.read(tmp_path / "v.faiss", tmp_path / "v.numbers")


def test_unit_vectors_have_length_one_and_nothing_stays_nothing():
    made = unit_vectors(np.array([[3, 4], [0, 0]], np.float32))
    assert np.allclose(made, [[0.6, 0.8], [0, 0]])
