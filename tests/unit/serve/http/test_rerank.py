import pytest

QUERY, DOCUMENTS = "turn it off", ["book a table", "play some music", "turn it off"]


@pytest.fixture
def expected(tiny_served):
    (ranking,) = tiny_served["order"].predict([(QUERY, DOCUMENTS)])
    return [(one.index, pytest.approx(one.relevance_score)) for one in ranking.results]


def test_texts_are_answered_as_tei_does(client, expected):
    answer = client.post("/rerank", {"query": QUERY, "texts": DOCUMENTS})
    assert [(one["index"], one["score"]) for one in answer.json()] == expected
    assert answer.headers["x-octavo-model"] == "order"
    assert "text" not in answer.json()[0]


def test_texts_with_logits_and_with_themselves(client, tiny_served, expected):
    answer = client.post("/rerank", {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True, "return_text": True})
    logits = tiny_served["order"].outputs(tiny_served["order"].task.prepare([(QUERY, DOCUMENTS)])).values[:, 0]
    assert [one["score"] for one in answer.json()] == pytest.approx([float(logits[index]) for index, _ in expected])
    assert [one["text"] for one in answer.json()] == [DOCUMENTS[index] for index, _ in expected]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_are_answered_as_cohere_does(client, path, expected):
    answer = client.post(path, {"model": "order", "query": QUERY, "documents": DOCUMENTS, "top_n": 2})
    content = answer.json()
    assert [(one["index"], one["relevance_score"]) for one in content["results"]] == expected[:2]
    assert content["model"] == "order"
    assert content["usage"]["total_tokens"] > 0
    assert "document" not in content["results"][0]


def test_documents_may_be_objects_and_come_back(client, expected):
    documents = [{"text": document, "title": "ignored"} for document in DOCUMENTS]
    answer = client.post("/v1/rerank", {"query": QUERY, "documents": documents, "return_documents": True})
    assert [one["document"] for one in answer.json()["results"]] == [{"text": DOCUMENTS[i]} for i, _ in expected]


@pytest.mark.parametrize("body", [{}, {"texts": ["a"], "documents": ["a"]}, {"texts": []}])
def test_either_texts_or_documents(client, body):
    answer = client.post("/rerank", {"query": "a", **body})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "error_type"}


def test_errors_are_cohere_s(client):
    answer = client.post("/v2/rerank", {"query": "a", "documents": [], "model": "order"})
    assert (answer.status_code, list(answer.json())) == (400, ["message"])


@pytest.mark.parametrize(
    ("path", "field"), [("/rerank", "texts"), ("/rerank", "documents"), ("/v2/rerank", "documents")]
)
def test_what_is_too_long_is_cut_or_refused_as_truncate_says(client, path, field):
    body = {"query": QUERY, field: ["lamp", "turn it off " * 20]}
    cut = client.post(path, body)
    assert cut.status_code == 200
    assert client.post(path, body | {"truncate": True}).status_code == 200
    refused = client.post(path, body | {"truncate": False})
    assert refused.status_code == 413
    assert "Input 1 has" in refused.text
    assert client.post(path, body | {field: ["lamp"], "truncate": False}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"max_tokens_per_doc": 31}, "max_tokens_per_doc is 31"), ({"rank_fields": ["title", "text"]}, "rank_fields")],
)
@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_limits_that_would_not_be_kept_are_refused_by_name(client, path, fields, words):
    body = {"query": QUERY, "documents": DOCUMENTS}
    kept = {"max_tokens_per_doc": 32, "rank_fields": ["text"], "max_chunks_per_doc": 10}
    assert client.post(path, body | kept).status_code == 200
    answer = client.post(path, body | fields)
    assert answer.status_code == 400
    assert words in answer.text
