from fnmatch import fnmatch
from pathlib import Path

import pytest

from octavo.encoder.folder import read_folder
from octavo.encoder.hub import folder_of
from octavo.errors import ModelError
from octavo.recipe import is_hub_id


@pytest.fixture
def snapshots(monkeypatch, tmp_path):
    """What was asked of the hub, which answers with an empty folder."""
    asked = []

    def snapshot_download(hub_id, **options):
        asked.append((hub_id, options))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["org/name", "org/name-v1.5", "a_b/c.d"])
def test_hub_ids(name):
    assert is_hub_id(Path(name))


@pytest.mark.parametrize("name", ["name", "/org/name", "org/name/more", "org/na me", "org/näme?", ""])
def test_what_is_no_hub_id(name):
    assert not is_hub_id(Path(name))


def test_a_folder_comes_before_a_hub_id(tmp_path, snapshots):
    (tmp_path / "org/name").mkdir(parents=True)
    assert folder_of(Path("org/name")) == Path("org/name")
    (tmp_path / "org/file").write_text("", "utf-8")
    with pytest.raises(ModelError, match="org/file is not a folder"):
        folder_of(Path("org/file"))
    assert snapshots == []


def test_a_snapshot_has_neither_code_nor_pickles(snapshots, tmp_path):
    assert folder_of(Path("org/name")) == tmp_path
    ((hub_id, options),) = snapshots
    assert hub_id == "org/name"

    def fetched(file):
        allowed = any(fnmatch(file, pattern) for pattern in options["allow_patterns"])
        return allowed and not any(fnmatch(file, pattern) for pattern in options["ignore_patterns"])

    for file in ("config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"):
        assert fetched(file)
    for file in ("pytorch_model.bin", "modeling.py", "onnx/model.onnx", "tf_model.h5", "training_args.bin"):
        assert not fetched(file)


@pytest.mark.parametrize(
    "error", [OSError("We couldn't connect."), RuntimeError("401 Client Error.\nMore."), ValueError("")]
)
def test_a_hub_that_does_not_answer_is_said_in_a_line(monkeypatch, error):
    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelError, match=r"org/name: there is no such folder, and it cannot be fetched") as caught:
        read_folder(Path("org/name"))
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_ctrl_c_while_fetching_is_no_error_of_the_hub(monkeypatch):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.snapshot_download", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder_of(Path("org/name"))
