from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from octavo.search.direct import DirectService
from octavo.serve.refusals import Unavailable
from octavo.serve.service import Reply, Request


def test_a_search_says_what_it_found_understood_and_took(client: Any) -> None:
    answer = client.search("play some music", top=2)
    assert len(answer["results"]) == 2
    assert not answer["degraded"]
    assert [stage["name"] for stage in answer["stages"]] == [
        "classify",
        "tag",
        "bm25",
        "embed",
        "vectors",
        "fuse",
        "rank",
    ]
    by_name = {stage["name"]: stage for stage in answer["stages"]}
    assert (by_name["rank"]["model"], by_name["rank"]["version"]) == ("rank", "2")
    assert by_name["rank"]["engine"].startswith("openvino")
    assert {intent["model"] for intent in answer["understanding"]["intents"]} == {"classify"}


def test_slots_and_marks_stand_where_they_say(client: Any) -> None:
    query = "🎵 play 音乐 music"
    answer = client.search(query, rerank=0)
    for slot in answer["understanding"]["slots"]:
        assert query[slot["start"] : slot["end"]].split() == slot["text"].split()
    music = next(one for one in answer["results"] if one["id"] == "music")
    assert {music["snippet"][start:end] for start, end in music["snippet_spans"]} == {"Play", "music"}
    chinese = next(one for one in answer["results"] if one["id"] == "zh")
    assert {chinese["snippet"][start:end] for start, end in chinese["snippet_spans"]} == {"音乐"}


def test_filters_keep_documents_that_have_a_text(client: Any) -> None:
    found = client.search("play music", filters={"id": "MUSIC"})["results"]
    assert [one["id"] for one in found] == ["music"]


def test_a_ranker_without_weight_is_asked_only_by_its_version(make_client: Callable[..., Any]) -> None:
    client = make_client(rank_weight=0.0)
    fused, ranked = client.search("play music"), client.search("play music", versions={"rank": "2"}, beside=True)
    assert "rank" not in {stage["name"] for stage in fused["stages"]}
    assert {"rank"} == {stage["name"] for stage in ranked["stages"]} - {stage["name"] for stage in fused["stages"]}
    assert all(one["scores"]["relevance"] is None for one in fused["results"])
    assert any(one["scores"]["relevance"] is not None for one in ranked["results"])


def test_a_version_that_does_not_serve_is_asked_by_model_or_by_stage(client: Any) -> None:
    for name in ("rank", "embed", "tag"):
        answer = client.search("play music", versions={name: "1"})
        asked = {stage["model"]: stage["version"] for stage in answer["stages"] if stage["model"]}
        assert asked == {"classify": "2", "tag": "2", "embed": "2", "rank": "2"} | {name: "1"}
        assert not answer["degraded"]


@pytest.mark.parametrize(
    ("versions", "status", "said"),
    [
        ({"rank": "7"}, 404, "no version 7"),
        ({"rank": "../1"}, 404, "versions are the integers"),
        ({"nobody": "1"}, 400, "no model and no stage"),
        ({"rank": "1", "embed": "1", "tag": "1"}, 400, "2 is the most"),
    ],
)
def test_versions_that_cannot_be_had_are_refused(client: Any, versions: Any, status: int, said: str) -> None:
    response = client.request("POST", "/v1/search", json={"query": "music", "versions": versions})
    assert response.status_code == status
    assert said in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": "  "},
        {"query": "a" * 10_001},
        {"query": "a", "top": 0},
        {"query": "a", "top": "10"},
        {"query": "a", "deadline_ms": 0},
        {"query": "a", "surprise": 1},
    ],
)
def test_bad_bodies_are_refused(client: Any, body: Any) -> None:
    response = client.request("POST", "/v1/search", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["reason"] == "bad_request"


class Failing:
    """A service whose ranker is broken."""

    def __init__(self, service: DirectService) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    async def ask(self, request: Request) -> Reply:
        if request.model == "rank":
            raise Unavailable("the engine broke")
        return await self._service.ask(request)


def test_a_ranker_that_fails_leaves_the_fused_order(make_client: Callable[..., Any], service: DirectService) -> None:
    answer = make_client(service=Failing(service)).search("play music")
    assert answer["degraded"]
    assert answer["problems"] == ["rank: the engine broke"]
    assert answer["results"][0]["scores"]["relevance"] is None


def test_documents_are_given_whole_in_the_order_of_their_ids(client: Any) -> None:
    response = client.request("POST", "/v1/search/documents", json={"ids": ["zh", "nobody", "music", "zh"]})
    documents = response.json()["documents"]
    assert [one["id"] for one in documents] == ["zh", "music"]
    assert documents[1]["text"] == "Play some music in the house"


def test_info_names_the_index_the_models_and_their_certificates(client: Any) -> None:
    info = client.get("/v1/search/info").json()
    assert info["index"]["documents"] == 4
    assert (info["index"]["vectors_by"], info["index"]["vectors_by_version"]) == ("embed", "1")
    models = {one["model"]: one for one in info["models"]}
    assert {name: one["stage"] for name, one in models.items()} == dict(zip(models, models, strict=True))
    versions = models["embed"]["versions"]
    assert [(one["version"], one["reference"], one["is_loaded"]) for one in versions] == [
        ("1", None, False),
        ("2", "1", True),
    ]
    assert versions[1]["certificate"]["verdict"] == "pass"
    assert versions[1]["certificate"]["latency_ms"]["per_query_batch32"] > 0
    assert versions[1]["certificate"]["metric"] == "nDCG@10"


def test_info_says_how_many_documents_are_ranked_for_the_page_that_counts_costs(
    make_client: Callable[..., Any],
) -> None:
    ranked = [
        make_client(**options).get("/v1/search/info").json()["ranked_documents"]
        for options in ({"rerank": 7}, {"rerank": 7, "rank_weight": 0.0}, {"rerank": 0})
    ]
    assert ranked == [7, 0, 0]


def test_info_says_what_is_wrong_with_a_version_that_cannot_be_read(
    make_client: Callable[..., Any], store: Path
) -> None:
    client = make_client(store=store)
    (store / "rank" / "1" / "certificate.json").write_text("{}")
    info = client.get("/v1/search/info").json()
    versions = next(one for one in info["models"] if one["model"] == "rank")["versions"]
    assert "certificate.json" in versions[0]["note"]
    assert versions[0]["certificate"] is None


def test_without_models_words_are_searched_and_the_answer_is_degraded(make_client: Callable[..., Any]) -> None:
    answer = make_client(service=DirectService([])).search("play music")
    assert [one["id"] for one in answer["results"]] == ["music"]
    assert answer["degraded"]


def test_searching_needs_a_key_where_the_service_wants_one(make_client: Callable[..., Any]) -> None:
    client = make_client(api_keys=("secret",), has_reports=False)
    assert client.get("/v1/search/info").status_code == 401
    assert client.get("/v1/search/info", headers={"authorization": "Bearer secret"}).status_code == 200
    assert client.get("/").status_code == 200
    assert client.get("/reports/rank/2").status_code == 404


def test_the_document_of_the_api_lists_the_addresses(client: Any) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/search", "/v1/search/documents", "/v1/search/info"} <= set(paths)
    assert "/" not in paths
