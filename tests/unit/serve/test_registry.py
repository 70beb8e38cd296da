"""Swaps over real releases in a real store: what serves before, during and after, whatever goes wrong.

Versions 1 (FP32) and 2 (INT8, current) are the tiny model's. All engines are OpenVINO's.
"""

import shutil
import threading

import pytest

from octavo.certify.certificate import Hashes
from octavo.errors import EngineError, ReleaseError
from octavo.serve import loaded as loading
from octavo.serve.refusals import UnknownModel
from octavo.serve.registry import Change, Registry
from octavo.store import model as models
from octavo.store.versions import current, point_current
from octavo.types import Verdict
from tests.unit.serve.fake_releases import Heard

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def open_registry(heard):
    """Return a registry over a store; it is closed after the test."""
    opened = []

    def open_(store, **options):
        options = {"threads": 1, "listener": heard, "max_batch_tokens": 32, "drain_s": 5.0} | options
        opened.append(Registry(store, **options))
        return opened[-1]

    yield open_
    for registry in opened:
        registry.close()


@pytest.fixture
def folder(publish_tiny):
    """The model's folder: store/tiny."""
    return publish_tiny()


@pytest.fixture
def registry(folder, open_registry):
    """A registry in which version 2 serves."""
    opened = open_registry(folder.parent)
    [change] = opened.refresh()
    assert (change.model, change.old, change.new, change.error) == ("tiny", None, "2", None)
    return opened


def answers(registry, model="tiny"):
    return registry.serving(model).model.predict(["book a table"])


def version(registry):
    return registry.serving("tiny").info.version


def test_nothing_serves_before_the_store_was_read(folder, open_registry):
    registry = open_registry(folder.parent)
    assert not registry.tried
    assert registry.models() == []
    with pytest.raises(UnknownModel):
        registry.serving("tiny")


def test_what_is_current_serves(registry, heard):
    assert registry.tried
    assert registry.models() == ["tiny"]
    info = registry.serving("tiny").info
    assert (info.version, info.precision, info.task.name, info.max_length) == ("2", "int8", "classify", 16)
    assert info.certificate.verdict is Verdict.PASS
    assert info.since.endswith("Z")
    assert answers(registry)
    assert heard.swaps == [("tiny", None, "2", None)]
    assert registry.refresh() == []


def test_a_store_that_is_not_there_is_said(tmp_path, open_registry):
    with pytest.raises(ReleaseError, match="cannot be listed"):
        open_registry(tmp_path / "none").refresh()


def test_a_promotion_moves_current_and_frees_the_old_release(registry, folder, heard):
    old = registry.serving("tiny")
    change = registry.promote("tiny", "1")
    assert (change.old, change.new, change.error) == ("2", "1", None)
    assert version(registry) == "1"
    assert current(folder.parent, "tiny") == "1"
    assert not old.pin()
    with pytest.raises(EngineError, match="closed"):
        old.model.predict(["book"])
    assert answers(registry)
    assert heard.swaps[-1] == ("tiny", "2", "1", None)


def test_promoting_what_serves_changes_nothing_but_current(registry, folder):
    serving = registry.serving("tiny")
    point_current(folder, "1")
    assert registry.promote("tiny", "2") == Change("tiny", "2", "2", 0.0)
    assert registry.serving("tiny") is serving
    assert current(folder.parent, "tiny") == "2"


def test_the_old_release_is_freed_only_when_the_last_request_has_left(registry):
    old = registry.serving("tiny")
    assert old.pin()
    swap = threading.Thread(target=registry.promote, args=("tiny", "1"))
    swap.start()
    for _ in range(1000):
        if version(registry) == "1":
            break
        threading.Event().wait(0.01)
    assert version(registry) == "1", "the new one serves while the old one drains"
    assert swap.is_alive()
    assert old.model.predict(["book"])
    old.unpin()
    swap.join(10)
    with pytest.raises(EngineError):
        old.model.predict(["book"])


def test_a_request_that_never_ends_does_not_hold_a_swap_for_ever(folder, open_registry):
    registry = open_registry(folder.parent, drain_s=0.01)
    registry.refresh()
    old = registry.serving("tiny")
    assert old.pin()
    registry.promote("tiny", "1")
    assert version(registry) == "1"
    old.unpin()


def test_a_rollback_goes_back_to_what_served_before_however_it_came(registry, folder):
    point_current(folder, "1")
    [change] = registry.refresh()
    assert (change.old, change.new) == ("2", "1")
    assert registry.rollback("tiny").new == "2"
    assert current(folder.parent, "tiny") == "2"


def test_without_a_memory_a_rollback_goes_to_the_newest_older_certified_version(registry):
    assert registry.rollback("tiny").new == "1"
    registry.promote("tiny", "2")
    registry.rollback("tiny")
    assert version(registry) == "1"


def test_where_nothing_is_older_a_rollback_says_so(registry, folder):
    registry.promote("tiny", "1")
    registry.rollback("tiny")
    registry.rollback("tiny")
    with pytest.raises(ReleaseError, match="no older one is certified"):
        registry.rollback("tiny")
    assert version(registry) == "1"


# What must not go live.


def spoil_byte(folder, name="model.onnx"):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)


def test_a_corrupted_release_is_refused_and_the_old_one_serves_on(registry, folder, heard):
    spoil_byte(folder / "1")
    with pytest.raises(ReleaseError, match="cannot be trusted"):
        registry.promote("tiny", "1")
    assert version(registry) == "2"
    assert answers(registry)
    assert current(folder.parent, "tiny") == "2"
    model, old, new, error = heard.swaps[-1]
    assert (model, old, new) == ("tiny", "2", "1")
    assert "sha256" in error


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "golden.json", "certificate.json", "manifest.json"])
def test_no_file_of_a_release_may_be_altered_or_missing(registry, folder, name):
    (folder / "1" / name).unlink()
    with pytest.raises(ReleaseError):
        registry.promote("tiny", "1")
    assert version(registry) == "2"


@pytest.mark.parametrize(("lost", "verdict"), [(900, "fail"), (40, "inconclusive")])
def test_a_release_without_a_pass_is_refused(publish_tiny, open_registry, lost, verdict):
    folder = publish_tiny(lost=lost, margin=0.04)
    registry = open_registry(folder.parent)
    [change] = registry.refresh()
    assert verdict in change.error
    assert registry.failures() == {"tiny": change.error}
    assert registry.models() == []
    allowed = open_registry(folder.parent, allow_uncertified=True)
    assert [change.error for change in allowed.refresh()] == [None]


def test_a_certificate_for_other_weights_is_refused(publish_tiny, open_registry, make_certificate, monkeypatch):
    def elsewhere(content, source):
        return make_certificate(model="tiny", version="2", sha256=Hashes("e" * 64, "b" * 64, "f" * 64))

    folder = publish_tiny()
    monkeypatch.setattr(models, "read_certificate", elsewhere)
    registry = open_registry(folder.parent)
    [change] = registry.refresh()
    assert "other weights" in change.error
    assert registry.models() == []


def test_another_model_s_release_is_refused(registry, folder, open_registry):
    shutil.copytree(folder, folder.parent / "stranger", symlinks=True)
    changes = registry.refresh()
    assert [(change.model, "this is tiny 2" in change.error) for change in changes] == [("stranger", True)]
    assert registry.models() == ["tiny"]


def test_a_golden_answer_that_differs_is_refused(registry, folder, monkeypatch):
    def differ(model):
        raise ReleaseError("golden.json: answers differently on this machine.")

    monkeypatch.setattr(models, "check_golden", differ)
    with pytest.raises(ReleaseError, match="differently"):
        registry.promote("tiny", "1")
    assert version(registry) == "2"
    assert answers(registry)


@pytest.mark.parametrize("error", [EngineError("cannot be built"), RuntimeError("no memory"), MemoryError()])
def test_whatever_an_engine_raises_the_old_release_serves_on(registry, error, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(models, "open_engine", fail)
    with pytest.raises(EngineError):
        registry.promote("tiny", "1")
    assert answers(registry)


def test_a_warm_up_that_fails_frees_the_new_engine(registry, monkeypatch):
    warmed = []

    def fail(model, max_batch_tokens):
        warmed.append(model)
        raise EngineError("no kernel")

    monkeypatch.setattr(loading, "warm_up", fail)
    with pytest.raises(EngineError, match="no kernel"):
        registry.promote("tiny", "1")
    with pytest.raises(EngineError, match="closed"):
        warmed[0].predict(["book"])
    assert answers(registry)


def test_current_that_cannot_be_moved_keeps_the_old_release(registry, folder, monkeypatch):
    def full(path, version):
        raise ReleaseError("current: cannot point to 1 (No space left on device).")

    monkeypatch.setattr("octavo.serve.registry.point_current", full)
    with pytest.raises(ReleaseError, match="No space"):
        registry.promote("tiny", "1")
    assert version(registry) == "2"
    assert answers(registry)


@pytest.mark.parametrize("bad", ["9", "../1", "current", ""])
def test_there_is_no_such_version(registry, bad):
    with pytest.raises(ReleaseError, match="version"):
        registry.promote("tiny", bad)
    with pytest.raises(ReleaseError, match="version"):
        registry.start_trial("tiny", bad)


@pytest.mark.parametrize("bad", ["nothing", "../tiny", ""])
def test_there_is_no_such_model(registry, bad):
    for act in (registry.rollback, lambda model: registry.promote(model, "1"), registry.serving):
        with pytest.raises(UnknownModel, match="tiny"):
            act(bad)


# A store that others write to.


def test_a_failure_is_told_once_and_tried_again_when_its_files_change(registry, folder, heard):
    whole = (folder / "1" / "model.onnx").read_bytes()
    (folder / "1" / "model.onnx").write_bytes(whole[:-10])
    point_current(folder, "1")
    [change] = registry.refresh()
    assert (change.old, change.new) == ("2", "1")
    assert "cut" in change.error
    assert registry.failures() == {"tiny": change.error}
    assert registry.refresh() == []
    assert [change.new for change in registry.refresh(retry=True)] == ["1"]
    (folder / "1" / "model.onnx").write_bytes(whole)
    [change] = registry.refresh()
    assert change.error is None
    assert version(registry) == "1"
    assert registry.failures() == {}


def test_going_back_to_what_serves_ends_a_failure(registry, folder):
    spoil_byte(folder / "1")
    point_current(folder, "1")
    registry.refresh()
    assert registry.failures()
    point_current(folder, "2")
    assert registry.refresh() == []
    assert registry.failures() == {}


def test_a_store_that_vanishes_changes_nothing_for_what_is_loaded(registry, folder):
    shutil.rmtree(folder.parent)
    for _ in range(3):
        with pytest.raises(ReleaseError, match="cannot be listed"):
            registry.refresh()
    assert answers(registry)
    with pytest.raises(ReleaseError):
        registry.promote("tiny", "1")
    with pytest.raises(ReleaseError):
        registry.rollback("tiny")
    assert answers(registry)
    folder.parent.mkdir()
    for _ in range(3):
        assert registry.refresh() == []
    assert answers(registry)


def test_current_that_is_missing_or_dangling_changes_nothing(registry, folder):
    (folder / "current").unlink()
    assert registry.refresh() == []
    assert "no version is current" in registry.failures()["tiny"]
    (folder / "current").symlink_to("7")
    [change] = registry.refresh()
    assert "no version 7" in change.error
    (folder / "current").unlink()
    (folder / "current").symlink_to("../elsewhere")
    registry.refresh()
    assert "points to '../elsewhere'" in registry.failures()["tiny"]
    assert answers(registry)


def test_a_model_that_two_refreshes_miss_is_unloaded(publish_tiny, open_registry, heard):
    folder = publish_tiny()
    registry = open_registry(folder.parent)
    registry.refresh()
    release = registry.serving("tiny")
    other = folder.parent / "other" / "1"
    other.mkdir(parents=True)
    folder.rename(folder.parent.parent / "away")
    registry.refresh()
    assert answers(registry), "it may be in the middle of being replaced"
    assert [(change.model, change.new) for change in registry.refresh()] == [("tiny", None)]
    assert registry.models() == []
    assert not release.pin()
    assert heard.swaps[-1] == ("tiny", "2", None, None)
    (folder.parent.parent / "away").rename(folder)
    assert [(change.model, change.new) for change in registry.refresh()] == [("tiny", "2")]


# Trials.


def test_a_trial_is_loaded_beside_the_one_that_serves(registry, folder):
    trial = registry.start_trial("tiny", "1")
    assert registry.trial("tiny") is trial
    assert trial.model.predict(["book"])
    assert version(registry) == "2"
    assert current(folder.parent, "tiny") == "2"
    with pytest.raises(ReleaseError, match="on trial"):
        registry.start_trial("tiny", "1")
    assert registry.end_trial("tiny", promote=False) is None
    assert registry.trial("tiny") is None
    assert not trial.pin()
    with pytest.raises(ReleaseError, match="no version is on trial"):
        registry.end_trial("tiny", promote=True)
    with pytest.raises(ReleaseError, match="serves already"):
        registry.start_trial("tiny", "2")


@pytest.mark.parametrize(
    "promote", [lambda r: r.end_trial("tiny", promote=True), lambda r: r.promote("tiny", "1")], ids=["end", "promote"]
)
def test_a_trial_that_is_promoted_is_not_loaded_again(registry, folder, promote):
    trial = registry.start_trial("tiny", "1")
    change = promote(registry)
    assert (change.old, change.new) == ("2", "1")
    assert registry.serving("tiny") is trial
    assert registry.trial("tiny") is None
    assert current(folder.parent, "tiny") == "1"
    assert registry.rollback("tiny").new == "2"


def test_a_trial_goes_on_where_current_cannot_be_moved(registry, monkeypatch):
    def full(path, version):
        raise ReleaseError("No space left on device.")

    trial = registry.start_trial("tiny", "1")
    with monkeypatch.context() as patch:
        patch.setattr("octavo.serve.registry.point_current", full)
        with pytest.raises(ReleaseError, match="No space"):
            registry.end_trial("tiny", promote=True)
    assert registry.trial("tiny") is trial
    assert trial.model.predict(["book"])
    assert version(registry) == "2"


def test_never_more_than_two_releases_of_a_model_are_loaded(registry, monkeypatch):
    """A swap to another version than the one on trial ends the trial before it loads."""
    trial = registry.start_trial("tiny", "1")
    beside = []

    def watched(folder, version, **options):
        beside.append((registry.trial("tiny"), trial.pin()))
        return loading.load_release(folder, version, **options)

    monkeypatch.setattr("octavo.serve.registry.load_release", watched)
    with pytest.raises(ReleaseError, match="no version 3"):
        registry.promote("tiny", "3")
    assert beside == [(None, False)]
    assert version(registry) == "2"


def test_swaps_of_one_model_take_turns(registry):
    """Whoever comes last decides; nothing is left half-way."""
    threads = [threading.Thread(target=registry.promote, args=("tiny", v)) for v in ("1", "2") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers(registry)
    assert current(registry._store, "tiny") == version(registry)


def test_everything_is_freed_at_the_end(registry):
    serving, trial = registry.serving("tiny"), registry.start_trial("tiny", "1")
    registry.close()
    assert registry.models() == []
    for release in (serving, trial):
        with pytest.raises(EngineError, match="closed"):
            release.model.predict(["book"])
