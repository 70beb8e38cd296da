import pytest

from octavo.distill.finetune import finetune
from octavo.distill.trainer import Plan
from octavo.encoder.folder import classifier_from_folder, read_folder
from octavo.engines.torch import TorchEngine
from octavo.errors import InputError
from octavo.progress import Silent
from octavo.text.tokenizer import Tokenizer
from octavo.types import Row, Rows

TEXTS = {"weather": "what is the weather", "music": "play some music", "order": "cancel the order"}
PLAN = Plan(epochs=20, learning_rate=3e-3, batch_size=4, seed=0, patience=20)


def rows(name, count=12):
    labels = sorted(TEXTS)
    found = [Row(TEXTS[labels[i % 3]], labels[i % 3], f"{name}:{i}") for i in range(count)]
    return Rows(name, found, sha256=name)


def tune(encoder, out, train=None, dev=None, progress=None):
    return finetune(encoder, train or rows("train"), dev or rows("dev", 6), out, PLAN, 32, progress or Silent())


@pytest.fixture(scope="module")
def encoder(make_folder):
    return read_folder(make_folder("bert", labels=2))


def test_writes_a_classifier_that_learned_the_rows(encoder, tmp_path):
    made = tune(encoder, tmp_path / "out")
    folder = read_folder(made.folder)
    assert folder.labels == ("music", "order", "weather")
    best = made.training.dev_scores[made.training.best_epoch]
    assert best == 1.0  # three texts, told apart by their words
    engine = TorchEngine(classifier_from_folder(folder), 0, "fp32")
    logits = engine.run(Tokenizer.from_folder(made.folder, 32).encode(list(TEXTS.values())))
    assert [folder.labels[i] for i in logits.argmax(1)] == list(TEXTS)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_run_resumes_to_the_same_bits(encoder, tmp_path):
    class Interrupting(Silent):
        steps = 0

        def advance(self, steps=1, note=""):
            self.steps += steps
            if self.steps == 5:
                raise KeyboardInterrupt

    whole = tune(encoder, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tune(encoder, tmp_path / "out", progress=Interrupting())
    assert not (tmp_path / "out").exists()
    resumed = tune(encoder, tmp_path / "out")
    assert resumed.training == whole.training
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_what_is_not_a_model_folder_is_never_overwritten(encoder, tmp_path):
    (tmp_path / "notes.txt").write_text("precious", "utf-8")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InputError, match="not a model folder"):
            tune(encoder, out)
    assert (tmp_path / "notes.txt").read_text("utf-8") == "precious"


def test_a_dev_label_that_training_lacks_is_named(encoder, tmp_path):
    dev = Rows("dev", [Row("play some music", "musik", "dev.jsonl:3")], sha256="")
    with pytest.raises(InputError, match=r"dev\.jsonl:3"):
        tune(encoder, tmp_path / "out", dev=dev)
