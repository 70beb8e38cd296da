import base64

import numpy as np
import pytest

from octavo.tasks.embed import Document
from octavo.tasks.rank import RankRequest
from octavo.types import Pair

TEXT = "turn it off"


def test_a_text_is_classified(client, tiny_served):
    answer = client.post("/v1/classify", {"input": TEXT})
    (expected,) = tiny_served["intent"].predict([TEXT])
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "intent",
        "version": "3",
        "answers": [
            {
                "label": expected.label,
                "confidence": pytest.approx(expected.confidence),
                "scores": pytest.approx(expected.scores),
            }
        ],
        "timing": {"queue_ms": 0.5, "tokenize_ms": 0.25, "compute_ms": 0.125},
    }


def test_many_texts_and_pairs_are_classified_in_order(client, service):
    answer = client.post("/v1/classify", {"input": [TEXT, {"text": "a", "text_pair": "b"}, {"text": "c"}]})
    assert len(answer.json()["answers"]) == 3
    assert service.asked[0].items == [TEXT, Pair("a", "b"), "c"]


def test_texts_and_words_are_tagged(client, tiny_served):
    answer = client.post("/v1/tag", {"input": [TEXT, {"words": ["turn it", "off"]}]})
    first, second = answer.json()["answers"]
    assert first["words"] == ["turn", "it", "off"]
    assert second["words"] == ["turn it", "off"]
    (expected,) = tiny_served["slots"].predict([TEXT])
    assert tuple(first["tags"]) == expected.tags
    assert first["intent"] == expected.intent


def test_queries_and_documents_are_embedded(client, tiny_served):
    answer = client.post("/v1/embed", {"input": [TEXT, {"query": TEXT}, {"document": TEXT}]})
    query, same, document = (np.array(one["vector"], np.float32) for one in answer.json()["answers"])
    expected = tiny_served["match"].predict([TEXT, Document(TEXT)])
    np.testing.assert_allclose(query, expected[0].vector, rtol=1e-5)
    np.testing.assert_allclose(document, expected[1].vector, rtol=1e-5)
    np.testing.assert_array_equal(query, same)
    assert not np.allclose(query, document)


def test_vectors_in_base64_are_the_same_numbers(client):
    plain = client.post("/v1/embed", {"input": TEXT}).json()["answers"][0]["vector"]
    coded = client.post("/v1/embed", {"input": TEXT, "encoding_format": "base64"}).json()["answers"][0]["vector"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), np.array(plain, np.float32))


def test_documents_are_put_in_order(client, tiny_served):
    documents = ["book a table", "play some music", "turn it off"]
    answer = client.post("/v1/rank", {"input": {"query": TEXT, "documents": documents}})
    ((expected,), (found,)) = tiny_served["order"].predict([(TEXT, documents)]), answer.json()["answers"]
    assert [one["index"] for one in found["results"]] == [one.index for one in expected.results]
    assert [one["relevance_score"] for one in found["results"]] == pytest.approx(
        [one.relevance_score for one in expected.results]
    )
    assert "document" not in found["results"][0]


def test_the_best_documents_come_with_their_texts_where_asked_for(client, service):
    body = {"input": [{"query": "a", "documents": ["b", "c"]}, {"query": "d", "documents": ["e"]}]}
    answer = client.post("/v1/rank", body | {"top_n": 1, "return_documents": True})
    first, second = answer.json()["answers"]
    assert len(first["results"]) == len(second["results"]) == 1
    assert first["results"][0]["document"] == ["b", "c"][first["results"][0]["index"]]
    assert service.asked[0].items == [RankRequest("a", ["b", "c"]), RankRequest("d", ["e"])]


def test_only_what_is_asked_for_is_decoded(client, service):
    client.post("/v1/embed", {"input": TEXT})
    client.post("/v1/classify", {"input": TEXT})
    assert [request.decode for request in service.asked] == [False, True]


def test_a_version_may_be_asked_for(client):
    for named in ({}, {"model": "intent"}):
        assert client.post("/v1/classify", {"input": TEXT, "version": "2", **named}).json()["version"] == "2"
    answer = client.post("/v1/classify", {"input": TEXT, "version": "7"})
    assert answer.status_code == 404
    assert "3, 2" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("/v1/classify", {}, "missing required field `input`"),
        ("/v1/classify", {"input": 1}, "$.input"),
        ("/v1/classify", {"input": []}, "length >= 1"),
        ("/v1/classify", {"input": ["a", 1]}, "$.input[1]"),
        ("/v1/classify", {"input": "a", "imput": "b"}, "unknown field `imput`"),
        ("/v1/classify", {"input": "a", "model": "match"}, "places queries near the documents"),
        ("/v1/tag", {"input": {"words": []}}, "length >= 1"),
        ("/v1/tag", {"input": {"words": ["a", " "]}}, "is blank"),
        ("/v1/embed", {"input": {"query": "a", "document": "b"}}, 'either "query" or "document"'),
        ("/v1/embed", {"input": {}}, 'either "query" or "document"'),
        ("/v1/embed", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("/v1/rank", {"input": {"query": "a", "documents": []}}, "length >= 1"),
        ("/v1/rank", {"input": {"query": " ", "documents": ["a"]}}, "the query is"),
        ("/v1/rank", {"input": {"query": "a", "documents": ["a"]}, "top_n": 0}, ">= 1"),
    ],
)
def test_what_means_nothing_is_refused_with_the_place(client, path, body, part):
    answer = client.post(path, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["reason"] == "bad_request"
    assert part in answer.json()["error"]["message"]
