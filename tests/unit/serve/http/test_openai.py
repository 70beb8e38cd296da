import base64

import numpy as np
import pytest

TEXTS = ["turn it off", "book a table"]


def test_texts_are_embedded_in_order(client, tiny_served):
    answer = client.post("/v1/embeddings", {"model": "match", "input": TEXTS})
    content = answer.json()
    expected = [one.vector for one in tiny_served["match"].predict(TEXTS)]
    assert [one["index"] for one in content["data"]] == [0, 1]
    np.testing.assert_allclose([one["embedding"] for one in content["data"]], expected, rtol=1e-5)
    assert content["model"] == "match"
    assert content["usage"]["prompt_tokens"] == content["usage"]["total_tokens"] > 0


def test_who_answered_stands_in_the_headers(client):
    answer = client.post("/v1/embeddings", {"model": "match", "input": TEXTS})
    assert answer.headers["x-octavo-model"] == "match"
    assert answer.headers["x-octavo-version"] == "3"
    assert answer.headers["server-timing"] == "queue;dur=0.500, tokenize;dur=0.250, compute;dur=0.125"


def test_one_text_and_base64(client):
    one, many = (client.post("/v1/embeddings", {"input": given}).json()["data"] for given in (TEXTS[0], TEXTS[:1]))
    assert one == many
    coded = client.post("/v1/embeddings", {"input": TEXTS[0], "encoding_format": "base64"}).json()["data"]
    vector = np.frombuffer(base64.b64decode(coded[0]["embedding"]), "<f4")
    np.testing.assert_array_equal(vector, np.array(one[0]["embedding"], np.float32))


def test_documents_are_embedded_with_their_own_prompt(client):
    vectors = [
        client.post("/v1/embeddings", {"input": "lamp", "input_type": kind}).json()["data"][0]["embedding"]
        for kind in ("query", "document", "passage")
    ]
    assert vectors[0] != vectors[1] == vectors[2]


def test_fields_that_mean_nothing_here_are_let_pass(client):
    assert client.post("/v1/embeddings", {"input": "lamp", "user": "me", "dimensions": None}).status_code == 200


@pytest.mark.parametrize("tokens", [[101, 7592], [[101, 7592], [102]], ["a", 5]])
def test_token_ids_are_refused_with_the_fix(client, tokens):
    answer = client.post("/v1/embeddings", {"model": "match", "input": tokens})
    assert answer.status_code == 400
    assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_dimensions_are_those_of_the_model(client, service):
    assert client.post("/v1/embeddings", {"input": "lamp", "dimensions": 32}).status_code == 200
    answer = client.post("/v1/embeddings", {"input": "lamp", "dimensions": 16})
    assert answer.status_code == 400
    assert "vectors of 32 numbers" in answer.json()["error"]["message"]
    assert len(service.asked) == 1


def test_an_unknown_model_has_the_code_that_clients_know(client):
    answer = client.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": "lamp"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "intent, match, order, slots" in answer.json()["error"]["message"]


def test_models_are_listed(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == ["intent", "match", "order", "slots"]
    one = client.get("/v1/models/match").json()
    assert one == listed["data"][1]
    assert (one["task"], one["version"], one["verdict"], one["created"]) == ("embed", "3", "pass", 1767323045)
    assert client.get("/v1/models/none").status_code == 404
