import json

import numpy as np
import pytest

from octavo.data.candidates import candidates_from_ranking, jsonl_from_candidates, read_candidates
from octavo.data.retrieval import Retrieval
from octavo.errors import InputError


def _write(folder, *rows, name="test.jsonl"):
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


LIST = {"query": "q", "documents": ["a", "b"], "relevance": [0, 2.5]}


def test_lists_are_read_as_they_stand(tmp_path):
    path = _write(tmp_path, LIST, {"query": "q", "documents": [""], "labels": [1]})
    lists = read_candidates(path)
    assert lists.name == "test"
    assert lists.queries == ["q", "q"]
    assert lists.documents == [("a", "b"), ("",)]
    assert [grades.tolist() for grades in lists.relevance] == [[0, 2.5], [1]]
    assert lists.sources == [f"{path}:1", f"{path}:2"]


def test_pairs_are_grouped_by_query_wherever_they_stand(tmp_path):
    lists = read_candidates(
        _write(
            tmp_path,
            {"query": "q", "document": "a", "relevance": 1},
            {"query": "r", "doc": "b", "label": 0},
            {"query": "q", "document": "c", "score": 0.5},
        )
    )
    assert lists.queries == ["q", "r"]
    assert lists.documents == [("a", "c"), ("b",)]
    assert [grades.tolist() for grades in lists.relevance] == [[1, 0.5], [0]]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**LIST, "relevance": [1]}, [":2", "2 documents", "1 entries"]),
        ({**LIST, "relevance": 1}, [":2", "2 documents", "no list"]),
        ({**LIST, "relevance": [1, "x"]}, [":2", "'x'"]),
        ({**LIST, "relevance": [1, -1]}, [":2", "-1"]),
        ({**LIST, "relevance": [1, float("nan")]}, [":2", "nan"]),
        ({**LIST, "query": ""}, [":2", "empty"]),
        ({**LIST, "documents": []}, [":2", "at least one"]),
        ({**LIST, "documents": "ab"}, [":2", "list"]),
        ({**LIST, "documents": ["a", 1]}, [":2", "1"]),
        ({"query": "q", "documents": ["a"]}, [":2", 'no "relevance"']),
        ({"documents": ["a"], "relevance": [1]}, [":2", 'no "query"']),
        ({"query": "q", "document": "a", "relevance": 1}, [":2", "mixed"]),
        ("{", [":2", "not valid JSON", "documents"]),
    ],
)
def test_an_error_names_the_line(tmp_path, row, words):
    with pytest.raises(InputError) as raised:
        read_candidates(_write(tmp_path, LIST, row))
    assert [word for word in words if word not in str(raised.value)] == []


def test_a_pair_needs_a_document_and_a_grade(tmp_path):
    with pytest.raises(InputError, match='no "document"'):
        read_candidates(_write(tmp_path, {"query": "q", "relevance": 1}))
    with pytest.raises(InputError, match='no "relevance"'):
        read_candidates(_write(tmp_path, {"query": "q", "document": "d"}))
    with pytest.raises(InputError, match="no rows"):
        read_candidates(_write(tmp_path))
    with pytest.raises(InputError, match=r"are \.jsonl"):
        read_candidates(_write(tmp_path, LIST, name="test.tsv"))


def _retrieval(relevance):
    return Retrieval(
        name="test",
        query_ids=["q"],
        queries=["query"],
        document_ids=list("01234"),
        documents=list("abcde"),
        relevance=[relevance],
        negatives=[()],
        sources=["file:1"],
        sha256="",
    )


@pytest.mark.parametrize(
    ("relevance", "size", "documents"),
    [
        ({3: 1.0}, 3, "edc"),  # found: as the first stage has them
        ({0: 1.0}, 3, "eda"),  # missed: in the place of the last irrelevant one
        ({0: 1.0, 4: 2.0}, 2, "ea"),
        ({0: 1.0, 1: 1.0, 2: 1.0}, 2, "abc"),  # never is a relevant one dropped
        ({2: 1.0}, 99, "edcba"),
    ],
)
def test_a_ranking_gives_hard_negatives_and_every_relevant_document(relevance, size, documents):
    made = candidates_from_ranking(_retrieval(relevance), [np.array([4, 3, 2, 1, 0])], size)
    assert "".join(made.documents[0]) == documents
    expected = [relevance.get("abcde".index(document), 0) for document in documents]
    assert made.relevance[0].tolist() == expected


def test_made_lists_can_be_written_and_read_back(tmp_path):
    made = candidates_from_ranking(_retrieval({0: 1.5}), [[4, 3, 2]], 3)
    path = tmp_path / "test.jsonl"
    path.write_bytes(jsonl_from_candidates(made))
    back = read_candidates(path)
    assert (back.queries, back.documents, back.sha256) == (made.queries, made.documents, made.sha256)
    np.testing.assert_array_equal(back.relevance[0], made.relevance[0])
