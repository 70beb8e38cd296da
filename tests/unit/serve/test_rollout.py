import json
import time
from types import SimpleNamespace

import pytest

from octavo.errors import EngineError, ReleaseError
from octavo.serve import rollout
from octavo.serve.loaded import LoadedRelease
from octavo.serve.refusals import UnknownModel
from octavo.serve.registry import Change
from octavo.serve.rollout import Rollout
from octavo.serve.service import Request
from octavo.serve.trial import Mode, Thresholds
from octavo.serve.trial_record import Outcome, TrialPlan
from octavo.tasks.classify import Classify

REQUEST = Request("intents", ["where is it"])
QUICK = Thresholds(min_requests=150, max_error_rate=0.5, min_agreement=0.9, max_drift=0.2, max_p99_ratio=2)


class _Registry:
    """One model, `intents`: 1 serves, 2 is as good, 3 does another task, 4 cannot be loaded, 5 cannot be promoted."""

    def __init__(self, make_info):
        other = Classify(("yes", "no"))
        infos = [make_info("1"), make_info("2"), make_info("3", task=other), make_info("5")]
        self.loaded = {info.version: LoadedRelease(SimpleNamespace(), info) for info in infos}
        self.now, self.tried = "1", None

    def serving(self, model):
        if model != "intents":
            raise UnknownModel(model)
        return self.loaded[self.now]

    def trial(self, model):
        return None if self.tried is None else self.loaded[self.tried]

    def start_trial(self, model, version):
        if version not in self.loaded:
            raise EngineError("it cannot be loaded")
        if self.tried:
            raise ReleaseError(f"intents {self.tried} is on trial")
        self.tried = version
        return self.loaded[version]

    def end_trial(self, model, *, promote):
        if self.tried is None:
            raise ReleaseError("no version is on trial")
        if promote and self.tried == "5":
            raise ReleaseError("current cannot be moved")
        version, self.tried = self.tried, None
        if not promote:
            return None
        old, self.now = self.now, version
        return Change(model, old, version, 0.1)


@pytest.fixture
def registry(make_info):
    return _Registry(make_info)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "intents").mkdir()
    return tmp_path


@pytest.fixture
def running(registry, store, monkeypatch):
    monkeypatch.setattr(rollout, "_TICK_S", 0.005)
    monkeypatch.setattr(rollout, "_KEEP_S", 0.0)
    made = Rollout(registry, store)
    yield made
    made.close()


def _plan(version="2", percent=50.0, **changes):
    return TrialPlan(version=version, percent=percent, thresholds=QUICK, **changes)


def _route(running, registry):
    return running.route("intents", registry.serving("intents"), registry.loaded["2"])


def _compare(running, make_reply, count, *, trial=None, **new):
    for _ in range(count):
        answer = trial or make_reply("2", **new)
        running.compared("intents", REQUEST, make_reply("1"), answer, 0.004, 0.004)


def _until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def _kept(store):
    (file,) = (store / "intents/.trials").glob("*.json")
    return json.loads(file.read_bytes())


def _ended(running, store, outcome):
    """Wait for a trial to end, and return what was kept of it."""
    _until(lambda: _kept(store)["outcome"] == outcome)
    assert running.records()["intents"].outcome is outcome
    return _kept(store)


def test_a_canary_answers_its_share_and_the_old_release_is_asked_too(running, registry):
    running.start("intents", Mode.CANARY, _plan(percent=10))
    routes = [_route(running, registry) for _ in range(200)]
    answered = [route for route in routes if route.answer_with is registry.loaded["2"]]
    assert len(answered) == 20
    assert all(route.shadow is registry.loaded["1"] for route in answered)
    assert all(route.shadow is None for route in routes if route not in answered)


def test_a_shadow_answers_nothing_and_gets_copies(running, registry):
    running.start("intents", Mode.SHADOW, _plan(percent=25))
    routes = [_route(running, registry) for _ in range(200)]
    assert {route.answer_with.info.version for route in routes} == {"1"}
    assert sum(route.shadow is registry.loaded["2"] for route in routes) == 50


def test_a_release_that_is_as_good_is_promoted(running, registry, store, make_reply):
    running.start("intents", Mode.CANARY, _plan())
    _compare(running, make_reply, 400)
    kept = _ended(running, store, Outcome.PROMOTED)
    assert (registry.now, registry.tried) == ("2", None)
    assert (kept["against"], kept["decision"]["action"]) == ("1", "promote")
    assert kept["evidence"]["compared"] >= 150
    assert kept["evidence"]["agreement"] == kept["evidence"]["compared"]
    assert kept["ended"]
    assert _route(running, registry).answer_with is registry.loaded["2"]


@pytest.mark.parametrize(
    ("worse", "words"),
    [
        ({"logits": (0.0, 2.0, 0.0)}, "of its answers differ"),
        ({"trial": EngineError("no memory")}, "of its requests failed"),
        ({"logits": (0.0, 2.0)}, "of its requests failed"),  # what cannot be compared is not as it should be
    ],
)
def test_a_worse_release_is_dropped_and_the_reason_kept(running, registry, store, make_reply, worse, words):
    running.start("intents", Mode.SHADOW, _plan())
    _compare(running, make_reply, 400, **worse)
    kept = _ended(running, store, Outcome.ROLLED_BACK)
    assert (registry.now, registry.tried) == ("1", None)
    assert words in kept["decision"]["reasons"][0]


def test_of_a_canary_the_copy_is_the_old_releases(running, registry, store, make_reply):
    running.start("intents", Mode.CANARY, _plan(act=False))
    new, old = make_reply("2", logits=(0.0, 2.0, 0.0)), make_reply("1")
    running.compared("intents", REQUEST, new, old, 0.008, 0.004)
    running.compared("intents", REQUEST, new, EngineError("no memory"), 0.008, 0.001)
    _until(lambda: running.records()["intents"].evidence.new.requests == 2)
    evidence = running.records()["intents"].evidence
    assert (evidence.old.latencies_ms, evidence.new.latencies_ms) == ([4.0], [8.0, 8.0])
    assert (evidence.old.errors, evidence.new.errors) == (1, 0)
    assert (evidence.compared, evidence.agreement) == (1, 0)


def test_without_leave_to_act_it_only_says_what_it_would_do(running, registry, store, make_reply):
    running.start("intents", Mode.SHADOW, _plan(act=False))
    _compare(running, make_reply, 400)
    _until(lambda: (decision := running.records()["intents"].decision) and decision.action == "promote")
    _until(lambda: _kept(store)["decision"] is not None)
    assert (_kept(store)["outcome"], registry.now, registry.tried) == ("running", "1", "2")


def test_a_promotion_that_fails_ends_the_trial_and_the_old_release_serves_on(running, registry, store, make_reply):
    running.start("intents", Mode.CANARY, _plan("5"))
    _compare(running, make_reply, 400)
    kept = _ended(running, store, Outcome.FAILED)
    assert (registry.now, registry.tried) == ("1", None)
    assert kept["note"] == "current cannot be moved"


def test_a_trial_is_aborted_by_hand(running, registry, store):
    running.start("intents", Mode.CANARY, _plan())
    assert running.abort("intents").outcome is Outcome.ABORTED
    assert registry.tried is None
    assert _kept(store)["note"] == "by hand"
    assert _route(running, registry).answer_with is registry.loaded["1"]
    with pytest.raises(ReleaseError, match="no version is on trial"):
        running.abort("intents")


@pytest.mark.parametrize(("now", "outcome"), [("2", Outcome.PROMOTED), ("5", Outcome.ABORTED)])
def test_a_swap_by_hand_ends_the_trial(running, registry, store, now, outcome):
    running.start("intents", Mode.CANARY, _plan())
    registry.now, registry.tried = now, None
    _ended(running, store, outcome)


def test_what_cannot_be_tried_is_refused_and_leaves_nothing(running, registry, store):
    with pytest.raises(EngineError, match="cannot be loaded"):
        running.start("intents", Mode.CANARY, _plan("4"))
    with pytest.raises(ReleaseError, match="another task"):
        running.start("intents", Mode.CANARY, _plan("3"))
    assert registry.tried is None
    assert running.records() == {}
    running.start("intents", Mode.CANARY, _plan())
    with pytest.raises(ReleaseError, match="is on trial"):
        running.start("intents", Mode.SHADOW, _plan())


def test_a_store_that_cannot_keep_evidence_begins_no_trial(running, registry, store):
    (store / "intents/.trials").write_text("a file")
    with pytest.raises(ReleaseError, match="cannot be kept"):
        running.start("intents", Mode.CANARY, _plan())
    assert registry.tried is None
    assert running.records() == {}


def test_a_trial_goes_on_after_a_restart(running, registry, store, make_reply):
    running.start("intents", Mode.SHADOW, _plan())
    _compare(running, make_reply, 60)
    _until(lambda: running.records()["intents"].evidence.compared == 60)
    running.close()
    registry.tried = None
    again = Rollout(registry, store)
    again.resume(["intents"])
    assert again.records()["intents"].evidence.compared == 60
    assert registry.tried == "2"
    _compare(again, make_reply, 200)
    _ended(again, store, Outcome.PROMOTED)
    again.close()


def test_a_trial_against_another_release_does_not_go_on(running, registry, store):
    running.start("intents", Mode.SHADOW, _plan())
    running.close()
    registry.now, registry.tried = "5", None
    again = Rollout(registry, store)
    again.resume(["intents", "other"])
    assert "1 serves no longer" in _ended(again, store, Outcome.ABORTED)["note"]
    assert registry.tried is None
    again.close()


def test_notes_beyond_what_can_be_compared_are_left_out(registry, store, make_reply, monkeypatch):
    monkeypatch.setattr(rollout, "_MOST_WAITING", 0)
    made = Rollout(registry, store)
    made.start("intents", Mode.SHADOW, _plan())
    _compare(made, make_reply, 10)
    made.close()
    assert _kept(store)["evidence"]["compared"] == 0
