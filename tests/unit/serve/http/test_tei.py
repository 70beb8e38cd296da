import numpy as np
import pytest

from octavo.tasks.embed import Document, Embed
from octavo.types import Outputs, Pair


def test_embed(client, tiny_served):
    vectors = client.post("/embed", {"inputs": ["turn it off", "lamp"]}).json()
    np.testing.assert_allclose(
        vectors, [one.vector for one in tiny_served["match"].predict(["turn it off", "lamp"])], rtol=1e-5
    )
    assert client.post("/embed", {"inputs": "turn it off"}).json() == vectors[:1]


def test_embed_with_the_prompt_of_documents(client, tiny_served):
    (vector,) = client.post("/embed", {"inputs": "lamp", "prompt_name": "document", "truncate": True}).json()
    np.testing.assert_allclose(vector, tiny_served["match"].predict([Document("lamp")])[0].vector, rtol=1e-5)


def test_vectors_have_length_1_unless_that_is_not_wanted(client, service, monkeypatch):
    model = service.loaded["match"]
    monkeypatch.setattr(model, "task", Embed(normalize=False, dimensions=32))
    monkeypatch.setattr(model.engine, "_normalizes", False)
    (normalized,) = client.post("/embed", {"inputs": "lamp"}).json()
    (raw,) = client.post("/embed", {"inputs": "lamp", "normalize": False}).json()
    assert np.linalg.norm(normalized) == pytest.approx(1, rel=1e-5)
    assert np.linalg.norm(raw) != pytest.approx(1, rel=1e-2)
    np.testing.assert_allclose(normalized, np.array(raw) / np.linalg.norm(raw), rtol=1e-5)


def test_predict_says_how_likely_every_label_is(client, tiny_served):
    predictions = client.post("/predict", {"inputs": "turn it off"}).json()
    (expected,) = tiny_served["intent"].predict(["turn it off"])
    assert [one["label"] for one in predictions] == list(expected.scores)
    assert [one["score"] for one in predictions] == pytest.approx(list(expected.scores.values()))
    assert sum(one["score"] for one in predictions) == pytest.approx(1)


def test_predict_gives_logits_where_asked_for(client, tiny_served):
    predictions = client.post("/predict", {"inputs": "turn it off", "raw_scores": True}).json()
    logits = tiny_served["intent"].outputs(["turn it off"]).values[0]
    assert {one["label"]: one["score"] for one in predictions} == pytest.approx(
        {f"label {i}": float(logit) for i, logit in enumerate(logits)}
    )


def test_predict_tells_a_pair_from_a_batch(client, service):
    pair = client.post("/predict", {"inputs": ["a", "b"]}).json()
    batch = client.post("/predict", {"inputs": [["a"], ["a", "b"]]}).json()
    assert batch[1] == pair
    assert service.asked[1].items == ["a", Pair("a", "b")]
    assert client.post("/predict", {"inputs": ["a"]}).json() == batch[0]


@pytest.mark.parametrize("inputs", [["a", "b", "c"], [["a", "b", "c"]], [[]], ["a", ["b"]], []])
def test_inputs_of_no_such_form_are_refused(client, inputs):
    answer = client.post("/predict", {"inputs": inputs})
    assert answer.status_code == 400
    assert answer.json()["error_type"] == "Validation"


def test_predict_when_the_version_that_answered_is_gone_a_moment_later(client, service, monkeypatch):
    """As after a canary: what it answered has to do."""
    answered = service._answered

    def from_version_9(request):
        reply = answered(request)
        return type(reply)(reply.model, "9", reply.answers, Outputs.one_each(np.zeros((1, 0))), 3, reply.timing)

    expected = client.post("/predict", {"inputs": "lamp"})
    monkeypatch.setattr(service, "_answered", from_version_9)
    answer = client.post("/predict", {"inputs": "lamp"})
    assert answer.headers["x-octavo-version"] == "9"
    assert [one["label"] for one in answer.json()] == [one["label"] for one in expected.json()]


def test_info_describes_the_model(client, service):
    info = client.get("/info?model=match").json()
    assert (info["model_id"], info["max_input_length"]) == ("match", 32)
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert client.get("/info?model=intent").json()["model_type"]["classifier"]["label2id"]["label 4"] == 4
    assert client.get("/info?model=order").json()["model_type"] == {"reranker": {}}
    answer = client.get("/info")
    assert answer.status_code == 400
    assert "/info?model=intent" in answer.json()["error"]
    service.loaded = {"match": service.loaded["match"]}
    assert client.get("/info").json() == info
    service.loaded = {}
    assert client.get("/info").status_code == 503


LONG = "turn it off " * 20


@pytest.mark.parametrize(
    ("path", "field"), [("/embed", {"inputs": ["lamp", LONG]}), ("/predict", {"inputs": [["lamp"], ["lamp", LONG]]})]
)
def test_what_is_too_long_is_cut_or_refused_as_truncate_says(client, path, field):
    cut = client.post(path, field)
    assert cut.status_code == 200
    assert client.post(path, field | {"truncate": True}).json() == cut.json()
    refused = client.post(path, field | {"truncate": False})
    assert (refused.status_code, refused.json()["error_type"]) == (413, "Validation")
    assert "Input 1 has 6" in refused.json()["error"]
    field["inputs"].pop()
    assert client.post(path, field | {"truncate": False}).status_code == 200


@pytest.mark.parametrize("path", ["/embed", "/predict"])
def test_texts_are_not_cut_on_the_left(client, path):
    assert client.post(path, {"inputs": "lamp", "truncation_direction": "Right"}).status_code == 200
    answer = client.post(path, {"inputs": "lamp", "truncation_direction": "left"})
    assert answer.status_code == 400
    assert "truncation_direction" in answer.json()["error"]
