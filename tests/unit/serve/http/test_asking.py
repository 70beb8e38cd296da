import pytest

from octavo.serve.http.asking import model_for
from octavo.serve.refusals import BadRequest, Unavailable, UnknownModel
from octavo.tasks.classify import Classify
from octavo.tasks.rank import Rank


def test_the_only_model_of_a_task_needs_no_name(service):
    assert model_for(service, Classify, None).model == "intent"
    assert model_for(service, Classify, "").version == "3"
    assert model_for(service, Rank, None, "2").version == "2"


def test_of_several_models_one_has_to_be_named(service):
    service.loaded["topics"] = service.loaded["intent"]
    with pytest.raises(BadRequest, match="intent, topics"):
        model_for(service, Classify, None)
    assert model_for(service, Classify, "topics").model == "topics"


def test_a_model_of_another_task_is_refused_with_those_that_would_do(service):
    with pytest.raises(BadRequest, match=r"'match' places queries .* Models of that task: intent\."):
        model_for(service, Classify, "match")


def test_where_no_model_does_it_all_are_named(service):
    del service.loaded["order"]
    with pytest.raises(UnknownModel, match=r"No model here does task rank\. Models: intent \(classify\), match"):
        model_for(service, Rank, None)


def test_an_unknown_name_is_answered_with_those_that_are_known(service):
    with pytest.raises(UnknownModel, match="intent, match, order, slots"):
        model_for(service, Classify, "itnent")


def test_nothing_serves_yet(service):
    service.loaded.clear()
    with pytest.raises(Unavailable, match="No model serves yet"):
        model_for(service, Classify, None)


def test_documents_count_one_by_one(make_client):
    client = make_client(max_inputs=3)
    request = {"query": "a", "documents": ["b", "c"]}
    assert client.post("/v1/rank", {"input": request}).status_code == 200
    answer = client.post("/v1/rank", {"input": [request, request]})
    assert answer.status_code == 413
    assert "4 inputs, and 3" in answer.json()["error"]["message"]
