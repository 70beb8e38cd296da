import msgspec
import pytest

from octavo.errors import InputError, ReleaseError
from octavo.serve.trial import Mode, Side, Thresholds
from octavo.serve.trial_record import Outcome, TrialPlan, TrialRecord, record_file, running_record, write_record


def _record(version="2", started="2026-01-02T03:04:05.123456+00:00", **changes):
    return TrialRecord(
        model="intents", against="1", mode=Mode.CANARY, plan=TrialPlan(version=version), started=started, **changes
    )


@pytest.fixture
def store(tmp_path):
    (tmp_path / "intents").mkdir()
    return tmp_path


def test_a_trial_is_read_as_it_was_written(store):
    record = _record()
    record.evidence.new = Side(3, 1, [1.5, 2.5])
    assert write_record(store, record) == store / "intents/.trials/20260102T0304051234560000-2.json"
    assert running_record(store, "intents") == record


def test_the_newest_trial_goes_on_if_it_is_not_over(store):
    write_record(store, _record("2"))
    write_record(store, _record("3", started="2026-01-03T03:04:05.123456+00:00"))
    assert running_record(store, "intents").plan.version == "3"
    write_record(store, _record("3", started="2026-01-03T03:04:05.123456+00:00", outcome=Outcome.ABORTED))
    assert running_record(store, "intents") is None
    assert running_record(store, "other") is None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 2}', b"\xff"])
def test_a_damaged_record_is_over(store, content):
    file = write_record(store, _record())
    file.write_bytes(content)
    assert running_record(store, "intents") is None


def test_a_record_of_another_model_does_not_go_on(store):
    record = _record()
    record.model = "other"
    file = record_file(store, _record())
    file.parent.mkdir()
    file.write_bytes(msgspec.json.encode(record))
    assert running_record(store, "intents") is None


def test_a_model_that_is_gone_is_not_made_again(store):
    (store / "intents").rmdir()
    with pytest.raises(ReleaseError, match="gone from the store"):
        write_record(store, _record())
    assert not (store / "intents").exists()


def test_a_store_that_cannot_be_written_is_said_to_be_so(store):
    (store / "intents/.trials").write_text("a file")
    with pytest.raises(ReleaseError, match="cannot be kept"):
        write_record(store, _record())


@pytest.mark.parametrize("percent", [0, 101])
def test_a_plan_is_checked(percent):
    with pytest.raises(InputError, match="percent"):
        TrialPlan(version="2", percent=percent)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"version": "2", "precent": 5}', type=TrialPlan)
    assert msgspec.json.decode(b'{"version": "2", "thresholds": {"max_drift": 0.1}}', type=TrialPlan).thresholds == (
        Thresholds(max_drift=0.1)
    )
