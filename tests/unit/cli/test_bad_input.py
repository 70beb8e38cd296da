"""`compress`, `finetune` and `certify` with what users really type: a sentence and exit code 2, nothing written."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from octavo.cli.failures import needs_extra
from octavo.cli.samples import CHINESE, ENGLISH, Place
from octavo.errors import InputError, MissingExtraError
from octavo.progress import Silent
from octavo.store.publish import new_version

ROWS = [("book a table", "label 0"), ("what is the weather", "label 1"), ("play some music", "label 2")]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
    path.write_text("".join(lines), "utf-8")
    return path


@pytest.fixture
def rows(tmp_path):
    """Files of good rows, by name."""
    return {name: write_rows(tmp_path / f"{name}.jsonl", ROWS * 4) for name in ("train", "dev", "test")}


@pytest.fixture(scope="module")
def teacher(make_folder):
    return make_folder("bert", labels=3)


@pytest.fixture
def compress(octavo, rows, tmp_path):
    """Run `octavo compress` on a teacher and good rows; keywords replace options."""

    def run(teacher, **changes):
        options = {f"--{name}": value for name, value in {**rows, "store": tmp_path / "store", **changes}.items()}
        ran = octavo("compress", teacher, *(part for pair in options.items() for part in pair))
        assert ran.code == 2
        assert ran.err.startswith("error: ") or "\nerror: " in ran.err
        assert not list((tmp_path / "store").rglob("manifest.json"))
        return ran.err

    return run


def test_a_missing_file_is_named(compress, teacher, tmp_path):
    assert "there is no such file" in compress(teacher, test=tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "a", "label": "label 0"', "not valid JSON"),
        (b'{"text": "a", "label": "label 7"}', "label 7"),
        (b'{"text": "a"}', "label"),
        (b'{"text": "", "label": "label 0"}', "empty"),
        (b'{"text": "\xff", "label": "label 0"}', "not UTF-8"),
        (b"[]", "object"),
    ],
)
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_bad_row_is_named_by_file_and_line(compress, teacher, rows, split, line, words):
    rows[split].write_bytes(rows[split].read_bytes() + line + b"\n")
    message = compress(teacher)
    assert f"{rows[split]}:13: " in message
    assert words in message


def test_labels_that_the_teacher_does_not_have(compress, make_folder, teacher):
    assert "'label 2' is not one of the 2 labels" in compress(make_folder("bert", labels=2))


def test_a_class_without_a_label_name(compress, make_folder, rows):
    write_rows(rows["train"], [*ROWS, ("a", " ")])
    assert "train.jsonl:4" in compress(make_folder("bert", labels=3))


def test_empty_rows(compress, teacher, rows):
    rows["dev"].write_text("\n", "utf-8")
    assert "no rows" in compress(teacher)


def test_a_folder_that_is_no_model(compress, tmp_path):
    assert "no config.json" in compress(tmp_path)


def test_a_model_without_a_head_or_of_another_task(compress, teacher, tmp_path):
    import transformers

    config = transformers.BertConfig.from_pretrained(teacher)
    folder = tmp_path / "tagger"
    transformers.BertForTokenClassification(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((teacher / "tokenizer.json").read_bytes())
    message = compress(folder, task="classify")
    assert "holds a BertForTokenClassification" in message
    assert "needs a BertForSequenceClassification" in message
    assert 'there is no "tokens"' in compress(folder)  # it says itself that it is a tagger


def test_a_model_of_another_family(compress, teacher, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}', "utf-8")
    assert "llama" in compress(folder)


def test_another_task(compress, teacher):
    assert "Task 'translate' is not known. Known: classify, tag, embed, rank" in compress(teacher, task="translate")
    assert "a ranker has one label, and config.json says 3" in compress(teacher, task="rank")


def test_a_folder_that_does_not_say_its_task(compress, make_folder):
    assert "does not say what it was trained for" in compress(make_folder("bert", kind="Model"))


def test_a_name_that_is_none_and_a_store_that_cannot_be_one(compress, teacher, tmp_path):
    assert "not a model name" in compress(teacher, model="a/b")
    (tmp_path / "taken").write_text("", "utf-8")
    assert "taken" in compress(teacher, store=tmp_path / "taken")


def test_a_store_that_cannot_be_written_is_refused_before_the_work(compress, teacher, tmp_path, monkeypatch):
    real = Path.mkdir

    def mkdir(self, *args, **kwargs):
        if "store" in self.parts:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    message = compress(teacher)
    assert "Read-only file system" in message
    assert "teacher answers" not in message


def test_a_disk_that_is_full_leaves_nothing(compress, teacher, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def publish_at_once(material, *_rest):
        with new_version(material.recipe.store, "m") as draft:
            draft.write("model.onnx", b"a graph")

    monkeypatch.setattr("octavo.ladder.compress._climb", publish_at_once)
    monkeypatch.setattr("octavo.store.publish.os.fsync", full)
    message = compress(teacher)
    assert "model.onnx needs 7 bytes" in message
    assert "Free some space" in message
    assert not (tmp_path / "store").exists()


def test_a_missing_extra_says_how_to_install_it(rows, teacher, tmp_path):
    code = "import sys; from octavo.cli import main; sys.exit(main())"
    missing = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    (tmp_path / "torch.py").write_text(missing, "utf-8")
    for verb in (["compress"], ["finetune", "--out", "out"], ["demo", "--out", str(tmp_path)]):
        arguments = (
            [] if verb[0] == "demo" else [str(teacher), *(f"--{name}={rows[name]}" for name in ("train", "dev"))]
        )
        ran = subprocess.run(
            [sys.executable, "-c", code, *verb, *arguments, "--json"],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        )
        assert ran.returncode == 2
        assert json.loads(ran.stdout)["error"]["kind"] == "MissingExtraError"
        assert "'torch'" in ran.stderr
        assert "pip install 'octavo[compress]'" in ran.stderr


@pytest.mark.parametrize("module", ["torch", "transformers", "safetensors.torch", "onnx", "onnxscript"])
def test_whatever_the_extra_brings_is_named(module):
    package = module.partition(".")[0]
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*octavo\[compress\]"), needs_extra():
        raise ModuleNotFoundError(name=module)


def test_a_module_of_our_own_that_is_missing_is_a_bug():
    with pytest.raises(ModuleNotFoundError), needs_extra():
        raise ModuleNotFoundError(name="octavo.nowhere")


def test_finetune_refuses_to_overwrite_what_is_no_model(octavo, rows, teacher, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter-1.tex").write_text("", "utf-8")
    ran = octavo("finetune", teacher, "--train", rows["train"], "--dev", rows["dev"], "--out", tmp_path / "thesis")
    assert ran.code == 2
    assert "not a model folder" in ran.err
    assert (tmp_path / "thesis/chapter-1.tex").exists()


def test_finetune_refuses_a_task_that_there_is_not_and_rows_of_another(octavo, rows, teacher, tmp_path):
    arguments = ("finetune", teacher, "--train", rows["train"], "--dev", rows["dev"], "--out", tmp_path / "out")
    for task, words in (("translate", "Task 'translate' is not known"), ("rank", f"{rows['train']}:1: ")):
        ran = octavo(*arguments, "--task", task)
        assert ran.code == 2
        assert words in ran.err
        assert not (tmp_path / "out").exists()


def test_certify_never_writes_into_a_release(octavo, store, rows):
    for out in (store / "intents/1", store / "intents/current/proof"):
        ran = octavo("certify", store / "intents", "--test", rows["test"], "--out", out)
        assert ran.code == 2
        assert "which is never changed" in ran.err


def test_certify_of_what_is_no_release(octavo, tmp_path, rows):
    assert octavo("certify", tmp_path / "nowhere", "--test", rows["test"]).code == 2


def test_the_demo_does_not_replace_a_model_that_it_did_not_make(tmp_path):
    from octavo.cli.demo import _is_made

    teacher = tmp_path / "teacher"
    assert not _is_made(teacher, "a")
    teacher.mkdir()
    assert not _is_made(teacher, "a"), "interrupted: there is no config.json yet"
    (teacher / "config.json").write_text("{}", "utf-8")
    assert _is_made(teacher, "a")
    assert not _is_made(teacher, "other settings")
    assert not teacher.exists()
    (tmp_path / ".teacher.sha256").unlink()
    teacher.mkdir()
    with pytest.raises(InputError, match="not made by this demo"):
        _is_made(teacher, "a")


@pytest.mark.parametrize("size", ["quick", "full"])
@pytest.mark.parametrize("model", [*ENGLISH, *CHINESE], ids=lambda model: f"{model.name}-{model.task}")
def test_the_demo_writes_recipes_that_can_be_read(tmp_path, model, size):
    from octavo.cli.demo import _write_recipe
    from octavo.recipe import read_recipe

    chosen = getattr(model, size)
    (tmp_path / "teachers" / model.name).mkdir(parents=True)
    recipe = read_recipe(_write_recipe(model, chosen, Place(tmp_path, Silent()), 7))
    assert (recipe.model_name, recipe.task, recipe.seed) == (model.name, model.task, 7)
    assert (recipe.distill.epochs, recipe.distill.control) == (chosen.kd_epochs, chosen.control)
    assert recipe.max_length == model.max_length
    assert recipe.quantize.observers == tuple(chosen.observers)
    assert recipe.certify.margin == pytest.approx(chosen.margin_points / 100)
    assert recipe.certify.reason == chosen.reason
    assert f"{chosen.margin_points} point" in chosen.reason
    assert recipe.teacher == tmp_path / "teachers" / model.name
    assert recipe.store == Place(tmp_path, Silent()).store
    for path in (recipe.data.train, recipe.data.dev, recipe.data.test):
        assert path.is_relative_to(Place(tmp_path, Silent()).data(model.name))


def test_the_demo_shows_every_task_under_names_of_their_own():
    from octavo.tasks.registry import NAMES

    assert {model.task for model in ENGLISH} == set(NAMES)
    assert {model.task for model in CHINESE} <= set(NAMES)
    for stack in (ENGLISH, CHINESE):
        assert len({model.name for model in stack}) == len(stack)
