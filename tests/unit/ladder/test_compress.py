import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

import octavo
from octavo.certify.certificate import read_certificate
from octavo.engines.open import Backend
from octavo.engines.openvino import computes_bf16
from octavo.errors import InputError, Interrupted, ModelError, ReleaseError
from octavo.ladder import compress as ladder
from octavo.ladder.recertify import recertify
from octavo.progress import Silent
from octavo.recipe import Certification, DataFiles, Distillation, Quantization, Recipe
from octavo.store.release import verify_release
from octavo.store.versions import current, versions
from octavo.types import Observer, Verdict


def recipe_for(folder: Path, store: Path, *, margin=0.2, epochs=1, control=False, observers=(Observer.MAX,), **changes):
    data = DataFiles(train=folder / "train.jsonl", dev=folder / "dev.jsonl", test=folder / "test.jsonl")
    recipe = Recipe(
        teacher=folder / "my-teacher",
        data=data,
        store=store,
        quantize=Quantization(observers=observers),
        distill=Distillation(epochs=epochs, control=control, learning_rate=1e-3),
        certify=Certification(margin=margin, timing_s=0.1),
    )
    return msgspec.structs.replace(recipe, **changes)


def compress(recipe, *, backend=Backend.OPENVINO, **options):
    """Compress for an engine that every installation has."""
    return ladder.compress(recipe, backend=backend, **options)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tiny_task, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return compress(recipe_for(tiny_task, store, control=True, observers=tuple(Observer))), store


def test_every_rung_is_certified_on_the_engine_that_serves(made):
    compression, _ = made
    rungs = [one.rung for one in compression.certificates]
    assert rungs == ["fp32", *(f"int8-ptq-{o}" for o in Observer), "int8-qat", "fp32-kd"]
    for one in compression.certificates:
        assert one.engine_id.startswith("openvino-")
        assert one.rows == 300
        assert one.speedup.torch_fp32 is not None
        assert one.determinism is not None
    first = compression.certificates[0]
    assert first.difference.value == 0
    assert first.agreement == 1


def test_the_chosen_rung_is_the_int8_one_that_dev_prefers(made):
    compression, store = made
    contenders = {
        one.rung: one.selection["dev"]["distance"]
        for one in compression.certificates
        if one.selection.get("best_observer_on_dev") or one.rung == "int8-qat"
    }
    assert len(contenders) == 2
    assert compression.chosen == min(contenders, key=contenders.get)
    assert current(store, "my-teacher") == compression.releases[compression.chosen].name


def test_reference_best_calibrated_and_trained_rung_are_released(made):
    compression, store = made
    listed = versions(store, "my-teacher")
    assert [one.version for one in listed] == ["1", "2", "3"]
    assert [one.rung for one in listed] == ["fp32", listed[1].rung, "int8-qat"]
    for folder in compression.releases.values():
        assert verify_release(folder) == []
        certificate = read_certificate((folder / "certificate.json").read_bytes(), "certificate.json")
        assert certificate.version == folder.name
        assert "<html" in (folder / "report.html").read_text("utf-8")
        assert certificate.rung in (folder / "README.md").read_text("utf-8")
    assert json.loads((compression.releases["int8-qat"] / "manifest.json").read_bytes())["teacher"] == "1"


def test_a_loaded_release_answers_as_it_was_certified(made, tiny_task):
    compression, store = made
    rows = [json.loads(line) for line in (tiny_task / "test.jsonl").read_text("utf-8").splitlines()]
    with octavo.load(store / "my-teacher") as model:
        answers = model.predict([row["text"] for row in rows])
    right = sum(answer.label == row["label"] for answer, row in zip(answers, rows, strict=True)) / len(rows)
    chosen = next(one for one in compression.certificates if one.rung == compression.chosen)
    assert right == pytest.approx(chosen.engine.value, abs=2 / len(rows))


def test_both_engines_run_a_release(made):
    _, store = made
    texts = ["play some music", "weather", ""]
    with octavo.load(store / "my-teacher") as one:
        expected = [answer.label for answer in one.predict(texts)]
    with pytest.raises(ReleaseError, match="certified on openvino"):
        octavo.load(store / "my-teacher", backend="onnxruntime")
    with octavo.load(store / "my-teacher", backend="onnxruntime", allow_uncertified=True) as other:
        assert [answer.label for answer in other.predict(texts)] == expected


def test_baselines_are_what_they_are_named_on_any_engine(tiny_task, tmp_path):
    recipe = recipe_for(tiny_task, tmp_path / "store", epochs=0)
    compression = compress(recipe, backend=Backend.ONNXRUNTIME)
    for one in compression.certificates:
        assert one.engine_id.startswith("onnxruntime-")
        assert one.speedup.openvino_fp32 is not None
    fp32 = compression.certificates[0]
    assert fp32.baselines["openvino_fp32"] != fp32.latency_ms  # not ONNX Runtime's under OpenVINO's name
    again = recertify(compression.releases["int8-ptq-max"], tiny_task / "test.jsonl", timing_s=0.1)
    assert again.engine_id.startswith("onnxruntime-")


@pytest.mark.parametrize("default", [Backend.NATIVE, Backend.OPENVINO])
def test_the_engine_is_the_installation_s_default_unless_it_is_named(tiny_task, tmp_path, monkeypatch, default):
    asked = []
    monkeypatch.setattr(ladder, "gather", lambda *_args: SimpleNamespace(warnings=[]))

    def climb(_material, _schemes, _work, _progress, backend, _reproduce):
        asked.append(backend)

    monkeypatch.setattr(ladder, "_climb", climb)
    monkeypatch.setattr(ladder, "default_backend", lambda: default)
    ladder.compress(recipe_for(tiny_task, tmp_path / "store"))
    ladder.compress(recipe_for(tiny_task, tmp_path / "store"), backend=Backend.ONNXRUNTIME)
    assert asked == [default, Backend.ONNXRUNTIME]


def test_certifying_again_needs_no_recipe(made, tiny_task):
    compression, store = made
    certificate = recertify(store / "my-teacher", tiny_task / "test.jsonl", timing_s=0.1)
    first = next(one for one in compression.certificates if one.rung == compression.chosen)
    assert certificate.verdict is Verdict.PASS
    assert certificate.difference.value == pytest.approx(first.difference.value, abs=2 / 300)
    assert certificate.speedup.openvino_fp32 is not None
    assert certificate.speedup.torch_fp32 is None
    assert certificate.sha256 == first.sha256


def test_certifying_against_a_model_folder(made, tiny_task):
    _, store = made
    certificate = recertify(
        store / "my-teacher", tiny_task / "dev.jsonl", teacher=tiny_task / "my-teacher", timing_s=0.1, margin=0.3
    )
    assert certificate.rows == 90
    assert certificate.margin == 0.3
    assert certificate.speedup.torch_fp32 is not None


def test_the_same_recipe_gives_the_same_bits(made, tiny_task, tmp_path):
    compression, _ = made
    again = compress(recipe_for(tiny_task, tmp_path / "again", observers=tuple(Observer)))
    for rung, folder in again.releases.items():
        assert (folder / "model.onnx").read_bytes() == (compression.releases[rung] / "model.onnx").read_bytes()


def test_a_gate_that_says_no_leaves_current_alone(tiny_task, tmp_path):
    compression = compress(recipe_for(tiny_task, tmp_path / "store", margin=0.0001))
    assert compression.chosen is None
    assert compression.release is None
    assert current(tmp_path / "store", "my-teacher") is None
    assert {one.verdict for one in compression.certificates if one.rung != "fp32"} <= {
        Verdict.INCONCLUSIVE,
        Verdict.FAIL,
    }
    with pytest.raises(ReleaseError, match=r"inconclusive|fail"):
        octavo.load(compression.releases["int8-qat"])


class Interrupting(Silent):
    """Presses Ctrl-C in the step that is labelled so."""

    def __init__(self, label: str, after: int) -> None:
        self.label, self.after, self.seen, self.inside = label, after, 0, False
        self.steps: list[str] = []

    def step(self, label, total=None):
        self.inside = self.label in label
        self.steps.append(label)
        return super().step(label, total)

    def advance(self, steps=1, note=""):
        self.seen += self.inside
        if self.seen == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("label", "after"), [("KD-QAT", 5), ("calibrate", 1), ("export", 3), ("certify", 4)])
def test_an_interruption_leaves_no_release_and_is_resumed(tiny_task, tmp_path, made, label, after):
    compression, _ = made
    recipe = recipe_for(tiny_task, tmp_path / "store", observers=tuple(Observer))
    with pytest.raises(Interrupted, match="run the same command again"):
        compress(recipe, progress=Interrupting(label, after))
    assert not list((tmp_path / "store").glob("*/[0-9]*"))
    resumed = compress(recipe)
    for name in ("model.onnx", "tokenizer.json"):
        expected = (compression.releases["int8-qat"] / name).read_bytes()
        assert (resumed.releases["int8-qat"] / name).read_bytes() == expected


def test_query_logs_alone_are_enough_to_learn_from(tiny_task, tmp_path):
    logs = tmp_path / "queries.txt"
    texts = [json.loads(line)["text"] for line in (tiny_task / "train.jsonl").read_text("utf-8").splitlines()]
    logs.write_text("\n".join(texts), "utf-8")
    recipe = recipe_for(tiny_task, tmp_path / "store")
    data = msgspec.structs.replace(recipe.data, train=None, unlabelled=(logs,))
    compression = compress(msgspec.structs.replace(recipe, data=data))
    assert compression.chosen
    nothing = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, train=None))
    with pytest.raises(InputError, match="nothing to learn from"):
        compress(nothing)


def test_zero_epochs_leave_the_trained_rung_out(tiny_task, tmp_path):
    compression = compress(recipe_for(tiny_task, tmp_path / "store", epochs=0))
    assert [one.rung for one in compression.certificates] == ["fp32", "int8-ptq-max"]


def test_an_unknown_task_and_a_foreign_label_are_refused(tiny_task, tmp_path):
    with pytest.raises(InputError, match="Task 'translate' is not known"):
        compress(recipe_for(tiny_task, tmp_path / "store", task="translate"))
    foreign = tmp_path / "test.jsonl"
    foreign.write_text('{"text": "book it", "label": "bookings"}\n', "utf-8")
    recipe = recipe_for(tiny_task, tmp_path / "store")
    with pytest.raises(InputError, match=r"test\.jsonl:1.*bookings"):
        compress(msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, test=foreign)))
    with pytest.raises(ModelError):
        compress(recipe_for(tiny_task, tmp_path / "store", teacher=tmp_path))
    assert not (tmp_path / "store").exists()


def test_golden_answers_are_checked_at_load(made, monkeypatch):
    _, store = made
    from octavo.engines.openvino import OpenVinoEngine

    run = OpenVinoEngine.run
    monkeypatch.setattr(OpenVinoEngine, "run", lambda self, batch: run(self, batch) + 0.5)
    with pytest.raises(ReleaseError, match="answers differently on this machine"):
        octavo.load(store / "my-teacher")


class TestHalfPrecision:
    @pytest.mark.skipif(not computes_bf16(), reason="not run: this CPU does not compute bfloat16")
    def test_it_is_a_rung_like_any_other(self, tiny_task, tmp_path):
        recipe = recipe_for(tiny_task, tmp_path / "store", epochs=0, half_precision=True)
        compression = compress(recipe, backend=Backend.OPENVINO)
        assert [one.rung for one in compression.certificates] == ["fp32", "bf16", "int8-ptq-max"]
        half = compression.certificates[1]
        assert half.engine_id.endswith("/bf16/bf16")
        assert half.rows == 300
        assert half.selection["kind"] == "half"
        assert compression.chosen == "int8-ptq-max"  # INT8 goes first where it passes
        with octavo.load(compression.releases["bf16"], allow_uncertified=True) as model:
            assert model.engine.engine_id == half.engine_id

    def test_it_is_left_out_where_the_cpu_cannot(self, tiny_task, tmp_path, monkeypatch):
        monkeypatch.setattr("octavo.ladder.compress.computes_bf16", lambda: False)
        recipe = recipe_for(tiny_task, tmp_path / "store", epochs=0, half_precision=True)
        compression = compress(recipe, backend=Backend.OPENVINO)
        assert [one.rung for one in compression.certificates] == ["fp32", "int8-ptq-max"]
