"""The verbs of a service, where none runs or one is made believe; with real ones in tests/e2e/test_serving.py."""

import io
import os

import pytest

from octavo.cli.status_tables import status_view
from octavo.serve import admin_client
from octavo.serve.running import Running, announced
from octavo.serve.status import ModelStatus, Status, TrialStatus
from octavo.serve.traffic import Traffic
from octavo.serve.trial import Action, Mode
from octavo.serve.trial_record import Outcome


@pytest.fixture(autouse=True)
def _own_cache(own_cache):
    pass


def _running(store="/stores/a"):
    return Running(os.getpid(), store, "127.0.0.1", 8000, "127.0.0.1", 8001, "secret", "2026")


@pytest.fixture
def asked(monkeypatch):
    """Let services be asked nothing really; return what they were asked."""
    noted = []

    def change(running, model, verb, body=None):
        noted.append((model, verb, body))
        swap = {"model": model, "old": "1", "new": "2", "seconds": 0.25, "error": None}
        trial = {"version": "2", "against": "1", "requests": 12}
        return swap if verb in ("promote", "rollback") else trial

    monkeypatch.setattr(admin_client, "change", change)
    monkeypatch.setattr(admin_client, "status_of", lambda running: STATUS)
    return noted


TRIAL = TrialStatus(
    version="2",
    against="1",
    mode=Mode.CANARY,
    percent=5,
    act=False,
    outcome=Outcome.RUNNING,
    started="2026",
    ended=None,
    requests=1200,
    errors=3,
    agreement=0.991,
    drift=0.012,
    old_p99_ms=5.0,
    new_p99_ms=4.0,
    action=Action.PROMOTE,
    reasons=["all is well"],
    note="",
)
STATUS = Status(
    octavo="1",
    pid=7,
    store="/stores/a",
    started="2026",
    ready=True,
    models=[
        ModelStatus(
            model="intents",
            version="1",
            task="classify",
            engine_id="native-1/int8",
            precision="int8",
            verdict="pass",
            sha256="a" * 64,
            since="2026",
            in_flight=3,
            traffic={"1": Traffic(60, 1.0, 0.5, 2.0), "2": Traffic(6, 0.1, 0.25, 1.5)},
            refused={"overloaded": 4},
            trial=TRIAL,
        )
    ],
    failures={"other": "store/other/3: altered"},
    refused={"unknown_model": 2},
)


def test_without_a_service_the_store_has_to_be_named(octavo):
    for verb in (("promote", "intents", "1"), ("rollback", "intents")):
        ran = octavo(*verb)
        assert ran.code == 2
        assert "--store STORE" in ran.err
    for verb in (("canary", "intents", "1"), ("shadow", "intents", "1"), ("abort", "intents"), ("status",)):
        ran = octavo(*verb, "--json")
        assert (ran.code, ran.document["error"]["kind"]) == (2, "ReleaseError")
        assert "octavo serve STORE" in ran.document["error"]["message"]


def test_without_a_service_current_is_moved(octavo, publish_tiny):
    store = publish_tiny().parent
    ran = octavo("promote", "tiny", "1", "--store", store)
    assert (ran.code, ran.out) == (
        0,
        "tiny: current is 1 (it was 2). No service runs; one that starts will serve it.\n",
    )
    ran = octavo("promote", "tiny", "2", "--store", store, "--json")
    assert (ran.document["old"], ran.document["new"], ran.document["pid"]) == ("1", "2", None)
    assert octavo("rollback", "tiny", "--store", store, "--json").document["new"] == "1"
    assert octavo("rollback", "tiny", "--store", store).code == 2


def test_a_failed_release_is_not_promoted(octavo, publish_tiny):
    store = publish_tiny(lost=500, margin=0.01).parent
    ran = octavo("promote", "tiny", "1", "--store", store)
    assert ran.code == 2
    assert "'fail'" in ran.err
    assert octavo("promote", "tiny", "1", "--store", store, "--allow-uncertified").code == 0


def test_a_running_service_is_asked(octavo, asked):
    with announced(_running()):
        assert octavo("promote", "intents", "2").out == "intents: 2 serves in place of 1 (0.2 s)\n"
        assert octavo("rollback", "intents", "--json").document["pid"] == os.getpid()
        ran = octavo("canary", "intents", "2", "--percent", 20, "--max-drift", 0.1, "--only-watch")
        assert "2 answers 20% of the requests; 1 serves on" in ran.out
        octavo("shadow", "intents", "2")
        assert "off trial after 12 requests" in octavo("abort", "intents").out
    assert asked == [
        ("intents", "promote", {"version": "2"}),
        ("intents", "rollback", None),
        ("intents", "canary", {"version": "2", "percent": 20, "act": False, "thresholds": {"max_drift": 0.1}}),
        ("intents", "shadow", {"version": "2", "percent": 10, "act": True, "thresholds": {}}),
        ("intents", "abort-trial", None),
    ]


def test_of_several_services_one_has_to_be_named(octavo, asked):
    with (
        announced(_running("/stores/a")),
        announced(Running(1, "/stores/b", "127.0.0.1", 1, "127.0.0.1", 2, "k", "2026")),
    ):
        ran = octavo("status")
        assert ran.code == 2
        assert "--store /stores/a | /stores/b" in ran.err
        assert octavo("status", "--store", "/stores/a").code == 0


def test_the_status_is_shown(octavo, asked):
    with announced(_running()):
        out = octavo("status").out
        document = octavo("status", "--json").document
    for words in (
        "ready",
        "native-1/int8",
        "1.0",
        "4 overloaded",
        "canary of intents 2 against 1 (5%): running",
        "1,200 requests · 3 errors · 99.10% agree · drift 1.20% · p99 4.00 ms to 5.00 ms",
        "promote (would promote): all is well",
        "other: store/other/3: altered",
        "2 unknown_model",
    ):
        assert words in out
    assert document["models"][0]["traffic"]["2"]["requests"] == 6


def test_the_status_fits_a_narrow_terminal():
    from rich.console import Console

    console = Console(width=60, record=True, file=io.StringIO())
    console.print(status_view(STATUS, _running(), 60))
    assert max(map(len, console.export_text().splitlines())) <= 60


def test_a_service_without_a_store_does_not_start(octavo, tmp_path):
    ran = octavo("serve", tmp_path / "nowhere", "--json")
    assert ran.code == 2
    assert "nowhere" in ran.document["error"]["message"]
    ran = octavo("serve", tmp_path, "--batch-wait-ms", 500)
    assert ran.code == 2
    assert "batch_wait_ms" in ran.err


def test_help_says_which_verbs_there_are(octavo):
    out = octavo("--help").out
    for verb in ("serve", "status", "promote", "rollback", "canary", "shadow", "abort"):
        assert f" {verb} " in out
        assert octavo(verb, "--help").code == 0
