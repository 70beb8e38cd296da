import json

import pytest

from octavo.distill.finetune import finetune
from octavo.distill.trainer import Plan
from octavo.encoder.folder import model_from_folder, read_folder
from octavo.engines.torch import TorchEngine
from octavo.errors import InputError
from octavo.progress import Silent
from octavo.tasks.classify import Classify
from octavo.tasks.registry import task_from_facts
from octavo.text.layout import NO_OFFSET
from octavo.text.tokenizer import Tokenizer

TEXTS = {"weather": "what is the weather", "music": "play some music", "order": "cancel the order"}
PLAN = Plan(epochs=20, learning_rate=3e-3, batch_size=4, seed=0, patience=20)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A folder with train.jsonl and dev.jsonl."""
    folder, labels = tmp_path_factory.mktemp("rows"), sorted(TEXTS)
    for name, count in {"train": 12, "dev": 6}.items():
        lines = [json.dumps({"text": TEXTS[labels[i % 3]], "label": labels[i % 3]}) for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def tune(encoder, rows):
    def run(out, dev=None, progress=None):
        dev = dev or rows / "dev.jsonl"
        return finetune(encoder, Classify, rows / "train.jsonl", dev, out, PLAN, 32, progress or Silent())

    return run


@pytest.fixture(scope="module")
def encoder(make_folder):
    return read_folder(make_folder("bert", labels=2))


def test_writes_a_classifier_that_learned_the_rows(tune, tmp_path):
    made = tune(tmp_path / "out")
    folder = read_folder(made.folder)
    task = task_from_facts(folder.facts)
    assert task == made.task == Classify(("music", "order", "weather"))
    best = made.training.dev_scores[made.training.best_epoch]
    assert best == 1.0  # three texts, told apart by their words
    engine = TorchEngine(model_from_folder(folder, task.head), NO_OFFSET, "fp32")
    logits = engine.run(Tokenizer.from_folder(made.folder, 32).encode(list(TEXTS.values())))
    assert [task.labels[i] for i in logits.argmax(1)] == list(TEXTS)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_run_resumes_to_the_same_bits(tune, tmp_path):
    class Interrupting(Silent):
        steps = 0

        def advance(self, steps=1, note=""):
            self.steps += steps
            if self.steps == 5:
                raise KeyboardInterrupt

    whole = tune(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "out", progress=Interrupting())
    assert not (tmp_path / "out").exists()
    resumed = tune(tmp_path / "out")
    assert resumed.training == whole.training
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_what_is_not_a_model_folder_is_never_overwritten(tune, tmp_path):
    (tmp_path / "notes.txt").write_text("precious", "utf-8")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InputError, match="not a model folder"):
            tune(out)
    assert (tmp_path / "notes.txt").read_text("utf-8") == "precious"


def test_a_dev_label_that_training_lacks_is_named(tune, rows, tmp_path):
    dev = tmp_path / "dev.jsonl"
    row = json.dumps({"text": "play some music", "label": "musik"})
    dev.write_text(f"{(rows / 'dev.jsonl').read_text('utf-8')}\n{row}\n", "utf-8")
    with pytest.raises(InputError, match=r"dev\.jsonl:7"):
        tune(tmp_path / "out", dev=dev)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_trained(tune, tmp_path, monkeypatch):
    monkeypatch.setattr("octavo.distill.finetune.train", lambda *_args, **_options: pytest.fail("trained in vain"))
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(InputError, match=r"file/out: cannot be written \(Not a directory\)"):
        tune(tmp_path / "file" / "out")
