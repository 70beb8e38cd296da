import asyncio
import json
import os
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from octavo.errors import EngineError, InputError, ReleaseError
from octavo.serve.admin import Admin, create_admin
from octavo.serve.loaded import LoadedRelease
from octavo.serve.metrics import Metrics
from octavo.serve.refusals import UnknownModel
from octavo.serve.registry import Change
from octavo.serve.status import Status, models_status
from octavo.serve.traffic import LastMinute
from octavo.serve.trial import Mode
from octavo.serve.trial_record import TrialPlan, TrialRecord

KEY = "the-key"
HEADERS = {"authorization": f"Bearer {KEY}"}
RECORD = TrialRecord(model="intents", against="1", mode=Mode.CANARY, plan=TrialPlan(version="2"), started="2026")


class _Steering:
    """Registry and rollout in one: notes what was asked, and fails where it is told to. Blocks, as they do."""

    def __init__(self):
        self.asked = []
        self.fails_with = None

    def _do(self, *what):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        self.asked.append(what)
        if self.fails_with:
            raise self.fails_with

    def promote(self, model, version):
        self._do("promote", model, version)
        return Change(model, "1", version, 0.25)

    def rollback(self, model):
        self._do("rollback", model)
        return Change(model, "2", "1", 0.25)

    def refresh(self, *, retry=False):
        self._do("refresh", retry)
        return [Change("intents", "1", "2", 0.1, "altered")]

    def start(self, model, mode, plan):
        self._do("start", model, mode, plan.version, plan.percent, plan.thresholds.max_drift)
        return RECORD

    def abort(self, model):
        self._do("abort", model)
        return RECORD


@pytest.fixture
def steering():
    return _Steering()


@pytest.fixture
def client(steering):
    def status():
        return Status(
            octavo="1", pid=os.getpid(), store="s", started="2026", ready=True, models=[], failures={}, refused={}
        )

    app = create_admin(Admin(steering, steering, status, Metrics().exposition, KEY))
    with TestClient(app, raise_server_exceptions=False, headers=HEADERS) as made:
        yield made


def test_swaps_and_trials_are_asked_for(client, steering):
    assert client.post("/admin/models/intents/promote", json={"version": "2"}).json() == {
        "model": "intents",
        "old": "1",
        "new": "2",
        "seconds": 0.25,
        "error": None,
    }
    assert client.post("/admin/models/intents/rollback").json()["new"] == "1"
    canary = client.post("/admin/models/intents/canary", json={"version": "2", "percent": 10})
    assert canary.json()["outcome"] == "running"
    thresholds = {"max_drift": 0.2}
    client.post("/admin/models/intents/shadow", json={"version": "2", "thresholds": thresholds})
    assert client.post("/admin/models/intents/abort-trial").json()["version"] == "2"
    assert client.post("/admin/refresh").json()["changes"][0]["error"] == "altered"
    assert steering.asked == [
        ("promote", "intents", "2"),
        ("rollback", "intents"),
        ("start", "intents", Mode.CANARY, "2", 10, 0.05),
        ("start", "intents", Mode.SHADOW, "2", 5, 0.2),
        ("abort", "intents"),
        ("refresh", True),
    ]


@pytest.mark.parametrize("shown", [None, "", "Bearer", "Bearer the-keys", "Bearer the-ke", "Basic the-key", "Bearer é"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/admin/status"), ("POST", "/admin/refresh")])
def test_without_the_key_nothing_is_done_or_told(client, steering, shown, method, path):
    del client.headers["authorization"]
    headers = {} if shown is None else {"authorization": shown.encode()}
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["kind"] == "Unauthorized"
    assert steering.asked == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ReleaseError("altered"), 409),
        (EngineError("no memory"), 409),
        (UnknownModel("no such model"), 404),
        (InputError("no such thing"), 400),
    ],
)
def test_a_refused_swap_says_why(client, steering, error, status):
    steering.fails_with = error
    answer = client.post("/admin/models/intents/promote", json={"version": "2"})
    assert answer.status_code == status
    assert answer.json() == {"error": {"kind": type(error).__name__, "message": str(error)}}


def test_a_bug_is_no_traceback(client, steering, caplog):
    steering.fails_with = ZeroDivisionError("secret")
    answer = client.post("/admin/models/intents/promote", json={"version": "2"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("verb", "body", "words"),
    [
        ("promote", b"", "version"),
        ("promote", b"{", "not as it should be"),
        ("promote", b"\xff", "not as it should be"),
        ("promote", b"[" * 10_000, "not as it should be"),
        ("promote", b'{"version": 2}', "Expected `str`"),
        ("promote", b'{"version": "2", "now": true}', "unknown field"),
        ("canary", b'{"version": "2", "percent": 0}', "percent"),
        ("canary", b'{"version": "2", "thresholds": {"max_drift": 2}}', "max_drift"),
    ],
)
def test_a_body_of_another_form_is_refused(client, steering, verb, body, words):
    answer = client.post(f"/admin/models/intents/{verb}", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert steering.asked == []


def test_a_long_body_is_not_read(client, steering):
    answer = client.post("/admin/models/intents/promote", content=b" " * 100_000)
    assert answer.status_code == 413
    assert steering.asked == []


def test_other_addresses_are_said_to_be_nothing(client):
    for method, path, status in (("GET", "/admin", 404), ("GET", "/admin/refresh", 405), ("POST", "/metrics", 405)):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["kind"]) == (status, "NoSuchAddress")


def test_metrics_need_no_key(client):
    del client.headers["authorization"]
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "octavo_requests_total" in answer.text


def test_the_status_of_models(make_info, make_reply):
    release = LoadedRelease(SimpleNamespace(), make_info("1"))
    release.pin()

    def serving(model):
        if model == "gone":
            raise UnknownModel(model)
        return release

    registry = SimpleNamespace(models=lambda: ["gone", "intents"], serving=serving, failures=dict)
    minute = LastMinute()
    minute.answered(make_reply("1"), 0.004)
    minute.answered(make_reply("1", model="other"), 0.004)
    minute.refused("intents", "overloaded")
    (model,) = models_status(registry, minute, {"intents": RECORD})
    assert (model.version, model.verdict, model.in_flight) == ("1", "pass", 1)
    assert {version: one.requests for version, one in model.traffic.items()} == {"1": 1}
    assert model.refused == {"overloaded": 1}
    assert (model.trial.version, model.trial.agreement, model.trial.requests) == ("2", None, 0)


def test_the_status_is_json(client):
    assert json.loads(client.get("/admin/status").content)["ready"] is True
