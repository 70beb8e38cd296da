"""The pipeline, with a service that does what a test wants."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from octavo.errors import EngineError, InputError, ReleaseError
from octavo.search.answers import SearchRequest, Stack
from octavo.search.documents import Document
from octavo.search.index import open_index
from octavo.search.pipeline import LONGEST_QUERY, Searcher, may_query_from_store, stack_from
from octavo.search.rules import Intent, Match, Rule, Rules, Slot, When
from octavo.serve.refusals import BadRequest, DeadlineExceeded, Overloaded, Unavailable, UnknownModel
from octavo.serve.service import Reply, Timing
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.rank import Rank
from octavo.tasks.tag import Tag
from octavo.types import Outputs

TASKS = {
    "intents": Classify(("docker", "git")),
    "slots": Tag(("O", "B-what", "I-what"), ("list", "other")),
    "embed": Embed(dimensions=16),
    "rank": Rank(),
}
CORPUS = [
    Document("ps", "docker ps", "list running containers", {"kind": "docker"}),
    Document("log", "git log", "list commits of a branch", {"kind": "git"}),
    Document("images", "docker images", "list images", {"kind": "docker"}),
    Document("mv", "mv", "move or rename a file", {"kind": "file"}),
]


class ScriptedService:
    """Answers at once: intents by the word `docker`, vectors of hashed words, ranks by length of the document."""

    def __init__(self, embedder):
        self.embedder = embedder
        self.asked = []
        self.troubles = {}  # model → an error, or seconds to wait
        self.versions_of = {name: ["2", "1"] for name in TASKS}
        self.answers_with = {}  # model → a version on trial
        self.max_length = 512
        self.longest = None  # characters of a query that the ranker takes

    ready = True

    def models(self):
        return [self.model(name) for name in sorted(TASKS)]

    def model(self, name, version=None):
        if name not in TASKS or (version or "2") not in self.versions_of[name]:
            raise UnknownModel(f"No model '{name}' in version {version}.")
        number = version or self.versions_of[name][0]
        return SimpleNamespace(
            model=name, version=number, task=TASKS[name], engine_id=f"engine-{number}", sha256=name + number,
            certificate=None, max_length=self.max_length,
        )  # fmt: skip

    def versions(self, name):
        return self.versions_of[name]

    async def ask(self, request):
        self.asked.append(request)
        if request.model == "rank" and self.longest is not None and len(request.items[0].query) > self.longest:
            raise BadRequest("no room for the document")
        trouble = self.troubles.get(request.model)
        if isinstance(trouble, Exception):
            raise trouble
        await asyncio.sleep(trouble or 0)
        outputs = Outputs.one_each(self._values(request))
        task = TASKS[request.model]
        if request.model == "slots":
            (query,) = request.items
            values = np.zeros((1 + len(query.split()), 5), np.float32)
            values[:, 0] = 1
            for place, word in enumerate(query.split(), 1):
                values[place, 1] = 9 * (word == "containers")
            outputs = Outputs(values, np.array([0, len(values)]))
        answers = task.decode(outputs, request.items) if request.decode else ()
        version = request.version or self.answers_with.get(request.model) or self.versions_of[request.model][0]
        return Reply(request.model, version, answers, outputs, 3, Timing(0, 0, 0))

    def _values(self, request):
        if request.model == "embed":
            return self.embedder.vectors(request.items)
        if request.model == "rank":
            return np.array([[len(text) / 100] for text in request.items[0].documents], np.float32)
        return np.array([[2.0 * ("docker" in request.items[0]), 1.0]], np.float32)


@pytest.fixture
def index(build, tmp_path):
    build(CORPUS)
    return open_index(tmp_path / "index")


@pytest.fixture
def build(build, write_corpus):
    """Keep the field `kind`."""
    from octavo.search.documents import FieldNames

    return lambda documents, **options: build(documents, names=FieldNames(kept=("kind",)), **options)


@pytest.fixture
def service(embedder):
    return ScriptedService(embedder)


@pytest.fixture
def searcher(index, service):
    stack = Stack("embed", "rank", ("intents", "slots"))
    return Searcher(index, service, stack, lambda info: None)


def search(searcher, query="list docker containers", *, within_s=None, **options):
    deadline_s = None if within_s is None else time.monotonic() + within_s
    return asyncio.run(searcher.search(SearchRequest(query, deadline_s=deadline_s, **options)))


def ids(answer):
    return [result.id for result in answer.results]


def problems(answer):
    return {stage.name: stage.problem for stage in answer.stages if stage.problem}


@pytest.mark.parametrize(("weight", "expected"), [(1.0, ["ps", "log", "images", "mv"]), (0.01, None), (0.0, None)])
def test_the_ranker_has_as_much_to_say_as_it_weighs(searcher, service, weight, expected):
    fused = ids(search(replace(searcher, rank_weight=0.0)))
    answer = search(replace(searcher, rank_weight=weight))
    assert ids(answer) == (expected or fused)
    assert fused != ["ps", "log", "images", "mv"]
    is_ranked = weight > 0
    assert ("rank" in [stage.name for stage in answer.stages]) == is_ranked
    assert all((result.relevance_score is not None) == is_ranked for result in answer.results)


def test_a_query_that_is_too_long_for_the_ranker_is_cut_and_not_degraded(searcher, service):
    service.max_length = 16  # 32 characters, as is guessed
    query = "list docker containers and more of them"
    answer = search(searcher, query)
    assert not answer.degraded
    assert ids(answer) == ["ps", "log", "images", "mv"]
    assert [request.items[0].query for request in service.asked if request.model == "rank"] == [query[:31].rstrip()]
    (note,) = [stage.note for stage in answer.stages if stage.note]
    assert note == "the query is long: its first 31 characters were ranked with"


def test_where_the_guess_was_wrong_it_is_cut_again(searcher, service):
    service.max_length, service.longest = 16, 8
    answer = search(searcher, "list docker containers and more of them")
    assert not answer.degraded
    assert [request.items[0].query for request in service.asked if request.model == "rank"][1:] == ["list"]
    service.longest = 0
    assert problems(search(searcher)) == {"rank": "no room for the document"}


def test_a_search_goes_through_every_stage(searcher):
    answer = search(searcher)
    assert not answer.degraded
    assert [stage.name for stage in answer.stages] == ["classify", "tag", "bm25", "embed", "vectors", "fuse", "rank"]
    assert [(s.model, s.version, s.engine_id) for s in answer.stages if s.model][-1] == ("rank", "2", "engine-2")
    assert all(stage.ms >= 0 for stage in answer.stages)
    assert answer.ms >= max(stage.ms for stage in answer.stages)
    assert ids(answer) == ["ps", "log", "images", "mv"], "by length, as the ranker has it"
    assert answer.index == "1"


def test_the_query_is_understood(searcher):
    found = search(searcher).understanding
    assert [(one.model, one.label) for one in found.intents] == [("intents", "docker"), ("slots", "list")]
    assert isinstance(found.intents[0], Intent)
    assert found.slots == (Slot("slots", "what", "containers", 12, 22),)


def test_results_say_where_they_come_from(searcher):
    first = search(searcher).results[0]
    assert first.ranks == {"bm25": 1, "vectors": 1}
    assert first.score == pytest.approx(2 / 61)
    assert 0.5 < first.relevance_score < 1
    assert first.fields == {"kind": "docker"}
    assert [first.title[start:end] for start, end in first.title_spans] == ["docker"]
    assert [first.text[start:end] for start, end in first.text_spans] == ["list", "containers"]


def test_only_the_first_are_ranked(searcher, service):
    answer = search(searcher, "git log", rerank=2)
    assert len(service.asked[-1].items[0].documents) == 2
    assert [result.relevance_score is None for result in answer.results] == [False, False, True, True]
    assert "rank" not in [stage.name for stage in search(searcher, rerank=0).stages]
    assert ids(search(searcher, "git log", rerank=0))[0] == "log"
    assert len(search(searcher, k=1).results) == 1


def test_requests_carry_deadline_and_priority(searcher, service):
    search(searcher, within_s=60, priority=3)
    assert {request.priority for request in service.asked} == {3}
    assert all(request.deadline_s > time.monotonic() for request in service.asked)


def test_a_late_ranker_leaves_the_fused_order(searcher, service):
    service.troubles["rank"] = 60
    answer = search(searcher, within_s=0.3)
    assert answer.degraded
    assert problems(answer) == {"rank": "the deadline passed"}
    assert ids(answer) == ids(search(searcher, rerank=0))
    assert answer.problems == ["rank: the deadline passed"]


def test_only_rules_wait_for_what_is_understood(searcher, service):
    service.troubles["intents"] = 60
    answer = search(searcher, within_s=0.3)
    assert problems(answer) == {"classify": "the deadline passed"}
    assert answer.results[0].relevance_score is not None, "ranked all the same"
    rule = Rule(when=When(slot="what"), match=Match(field="kind", equals="docker"), filter=True)
    ruled = search(replace(searcher, rules=Rules((rule,))), within_s=0.3)
    assert problems(ruled) == {"classify": "the deadline passed"}
    assert ids(ruled) == ["ps", "images"], "what was understood in time counts, and there is time left to rank"
    assert ruled.results[0].relevance_score is not None


def test_a_search_that_is_cancelled_withdraws_its_requests(searcher, service):
    service.troubles = dict.fromkeys(("intents", "embed", "rank"), 60)
    withdrawn = []

    async def run():
        ask = type(service).ask

        async def watched(request):
            try:
                return await ask(service, request)
            except asyncio.CancelledError:
                withdrawn.append(request.model)
                raise

        service.ask = watched
        task = asyncio.create_task(searcher.search(SearchRequest("docker")))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(run())
    assert {"embed", "intents"} <= set(withdrawn)


@pytest.mark.parametrize("trouble", [Overloaded("It is full.", 1.0), EngineError("It broke."), UnknownModel("Gone.")])
@pytest.mark.parametrize(("model", "stage"), [("embed", "embed"), ("rank", "rank"), ("intents", "classify")])
def test_a_stage_that_fails_costs_its_own_part(searcher, service, model, stage, trouble):
    service.troubles[model] = trouble
    answer = search(searcher)
    assert answer.degraded
    assert problems(answer) == {stage: str(trouble)}
    assert "ps" in ids(answer)
    assert (not answer.understanding.intents or answer.understanding.intents[0].model != "intents") is (
        model == "intents"
    )


def test_without_the_embedder_words_are_searched(searcher, service):
    service.versions_of["embed"] = ["9"]
    answer = search(replace(searcher, may_query=pytest.fail), versions={"embed": "8"})
    assert answer.degraded
    assert {name for result in answer.results for name in result.ranks} == {"bm25"}


def test_an_embedder_that_does_not_fit_the_vectors_is_not_asked(searcher, service):
    def refuse(info):
        raise ReleaseError("another model")

    answer = search(replace(searcher, may_query=refuse))
    assert problems(answer) == {"embed": "another model"}
    assert "embed" not in {request.model for request in service.asked}


def test_with_nothing_recalled_there_is_no_answer(searcher, service, monkeypatch):
    def broken(*_):
        raise ReleaseError("The index is gone.")

    monkeypatch.setattr(type(searcher.index), "words", broken)
    service.troubles["embed"] = Overloaded("It is full.", 1.0)
    with pytest.raises(Unavailable, match=r"bm25: The index is gone.; embed: It is full."):
        search(searcher)


def test_a_deadline_before_everything_is_said(searcher):
    with pytest.raises(DeadlineExceeded):
        search(searcher, within_s=-1)


def test_a_bug_is_no_degraded_answer(searcher, service):
    service.troubles["rank"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        search(searcher)


def test_a_version_is_asked_for_by_name(searcher, service):
    answer = search(searcher, versions={"rank": "1"})
    assert {request.model: request.version for request in service.asked} == {
        **dict.fromkeys(("intents", "slots", "embed")),
        "rank": "1",
    }
    assert answer.stages[-1].engine_id == "engine-1"


def test_a_release_on_trial_that_answers_is_named(searcher, service):
    service.answers_with["rank"] = "1"
    stage = search(searcher).stages[-1]
    assert (stage.version, stage.engine_id) == ("1", "engine-1")


def test_an_embedder_on_trial_that_does_not_fit_the_vectors_finds_nothing(searcher, service):
    def check(info):
        if info.version == "1":
            raise ReleaseError("no proof")

    service.answers_with["embed"] = "1"
    answer = search(replace(searcher, may_query=check))
    assert answer.problems == ["embed: no proof"]
    assert answer.results


def test_filters_keep_documents_that_have_a_text(searcher):
    assert sorted(ids(search(searcher, filters={"kind": "DOCKER"}))) == ["images", "ps"]
    assert ids(search(searcher, filters={"kind": "docker", "title": "docker ps"})) == ["ps"]
    assert ids(search(searcher, filters={"nothing": "docker"})) == []


def test_rules_filter_and_boost(searcher):
    only = Rule(when=When(intent="docker"), match=Match(field="kind", equals="{intent}"), filter=True)
    more = Rule(when=When(slot="what"), match=Match(field="text", contains="commits"), boost=500.0)
    answer = search(replace(searcher, rules=Rules((only,))))
    assert ids(answer) == ["ps", "images"]
    assert answer.rules == ("1: only kind = docker",)
    assert ids(search(replace(searcher, rules=Rules((more,)))))[0] == "log", "a boost also counts with the ranker"
    assert ids(search(replace(searcher, rules=Rules((more,))), rerank=0))[0] == "log"
    assert search(replace(searcher, rules=Rules((only,))), "git log").rules == ()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SearchRequest("  \0 "), "empty"),
        (SearchRequest("a" * (LONGEST_QUERY + 1)), "10,001 characters; at most 10,000"),
        (SearchRequest("a", k=0), "k is 0 and must be from 1 to 100"),
        (SearchRequest("a", rerank=101), "rerank is 101"),
        (SearchRequest("a", depth=1001), "depth is 1001"),
    ],
)
def test_unfit_requests_are_refused(searcher, request_, message):
    with pytest.raises(BadRequest, match=message):
        asyncio.run(searcher.search(request_))


@pytest.mark.parametrize("query", ["\ud83d", "<script>alert(1)</script>", "‮مرحبا", "(" * 9999, "list\0docker"])
def test_hostile_text_is_text(searcher, query):
    answer = search(searcher, query)
    answer.query.encode()
    assert not answer.degraded


def test_the_stack_is_made_of_what_is_served(index, service):
    assert stack_from(index, service.models()) == Stack("embed", "rank", ("intents", "slots"))
    two = [*service.models(), replace_model(service.model("rank"), "other")]
    with pytest.raises(InputError, match="several rankers: rank, other"):
        stack_from(index, two)
    assert stack_from(index, two, "other").ranker == "other"
    with pytest.raises(InputError, match="no ranker 'nothing'"):
        stack_from(index, two, "nothing")
    assert stack_from(index, []).ranker is None


def replace_model(info, name):
    return SimpleNamespace(**{**vars(info), "model": name})


def test_an_empty_index_finds_nothing(build, tmp_path, service):
    gone = tmp_path / "gone.txt"
    build(CORPUS)
    gone.write_text("".join(f"{one.id}\n" for one in CORPUS), "utf-8")
    build(None, update=True, delete=gone)
    searcher = Searcher(open_index(tmp_path / "index"), service, Stack("embed", "rank"), lambda info: None)
    answer = search(searcher)
    assert (ids(answer), answer.degraded) == ([], False)


def test_a_release_is_checked_once_against_the_vectors(index, service, tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr("octavo.search.pipeline.check_may_query", lambda *arguments: checked.append(arguments[1]))
    may_query = may_query_from_store(index, tmp_path)
    for version in ("1", "1", "2", "1"):
        may_query(service.model("embed", version))
    assert checked == [tmp_path / "embed" / "1", tmp_path / "embed" / "2"]
