"""The whole story with the program itself: fine-tune, compress, use, interrupt."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import octavo as package
from octavo.certify.certificate import read_certificate

QUERIES = ["play some music", "what is the weather", "book a table for two"]
LABELS = ["music", "weather", "booking"]
EPOCHS = 40  # enough to be interrupted in
ENGINE = ("--engine", "openvino")  # which every installation has


def write_recipe(folder: Path, teacher: Path, rows: Path) -> Path:
    file = folder / "recipe.toml"
    file.write_text(
        f"""
        teacher = "{teacher}"
        store = "store"
        model = "tiny"
        max_length = 16
        [data]
        train = "{rows}/train.jsonl"
        dev = "{rows}/dev.jsonl"
        test = "{rows}/test.jsonl"
        [quantize]
        observers = ["max"]
        calibration_rows = 64
        [distill]
        epochs = {EPOCHS}
        patience = {EPOCHS}
        learning_rate = 1e-3
        control = false
        [certify]
        margin = 0.1
        timing_s = 0.1
        """,
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="module")
def teacher(octavo, tiny_task, tmp_path_factory):
    """A teacher that the program fine-tuned."""
    out = tmp_path_factory.mktemp("finetuned") / "teacher"
    rows = ("--train", tiny_task / "train.jsonl", "--dev", tiny_task / "dev.jsonl", "--max-length", 16)
    how = ("--epochs", 3, "--learning-rate", "3e-3", "--batch-size", 16)
    ran = octavo("finetune", tiny_task / "my-teacher", *rows, *how, "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert ran.document["task"] == "classify"
    assert ran.document["dev_score"] == max(ran.document["dev_scores"]) > 0.9
    assert len(ran.document["dev_scores"]) >= 2
    return out


@dataclass(frozen=True)
class Interrupted:
    """How the first run ended, in which Ctrl-C was pressed as soon as there was a checkpoint."""

    code: int
    out: str
    err: str
    manifests: list[Path]
    dev_scores: list[float]
    checkpoint: Path


@pytest.fixture(scope="module")
def interrupted(program, teacher, tiny_task, environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed")
    recipe = write_recipe(folder, teacher, tiny_task)
    checkpoint = folder / "store/.work/tiny/int8-qat.safetensors"
    process = subprocess.Popen(
        [program, "compress", recipe, *ENGINE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    manifests = list(folder.rglob("manifest.json"))
    return Interrupted(process.returncode, out, err, manifests, _dev_scores(checkpoint), checkpoint)


@pytest.fixture(scope="module")
def made(octavo, interrupted):
    """The folder of the compression, and what the program said when it was run again."""
    folder = interrupted.checkpoint.parents[3]
    ran = octavo("compress", folder / "recipe.toml", *ENGINE, "--json")
    assert ran.code == 0, ran.err
    assert ran.err == "", "nobody watches, so nothing is said beside the document"
    return folder, ran.document


def test_ctrl_c_in_training_leaves_no_release(interrupted):
    assert interrupted.code == 130
    assert "run the same command again" in interrupted.err
    assert "Traceback" not in interrupted.out + interrupted.err
    assert interrupted.manifests == []


def test_the_same_command_goes_on_from_there(interrupted, made):
    trained = next(one for one in made[1]["certificates"] if one["rung"] == "int8-qat")
    scores = [-score for score in trained["selection"]["dev_distance_by_epoch"]]
    assert len(scores) == EPOCHS + 1
    assert 2 <= len(interrupted.dev_scores) < len(scores)
    assert scores[: len(interrupted.dev_scores)] == interrupted.dev_scores
    assert not interrupted.checkpoint.exists()


def test_compress_prints_one_document_with_the_certificates(made):
    folder, document = made
    assert document["chosen"].startswith("int8-")
    assert Path(document["release"]) == Path(document["releases"][document["chosen"]])
    assert Path(document["report"]).is_file()
    published = json.loads((Path(document["release"]) / "certificate.json").read_bytes())
    assert published in document["certificates"]
    assert [one["rung"] for one in document["certificates"]] == ["fp32", "int8-ptq-max", "int8-qat"]
    assert (folder / "store/tiny/current").resolve() == Path(document["release"]).resolve()


def test_the_report_names_the_command(made):
    _, document = made
    assert "octavo compress" in Path(document["report"]).read_text("utf-8")


def test_predict_answers_arguments_and_lines(octavo, made):
    release = made[0] / "store/tiny"
    ran = octavo("predict", release, *QUERIES)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert [re.fullmatch(r" *[\d.,]+ ms  (.*)", line)[1] for line in lines[::2]] == QUERIES
    assert [line.split()[0] for line in lines[1::2]] == LABELS
    assert "openvino" in ran.err
    document = octavo("predict", release, "--json", text="\n".join(QUERIES)).document
    assert document["task"] == "classify"
    assert [one["label"] for one in document["answers"]] == LABELS
    assert [one["text"] for one in document["answers"]] == QUERIES
    assert all(one["ms"] > 0 and len(one["scores"]) == 3 for one in document["answers"])


def test_predict_refuses_what_is_no_text_or_not_certified(octavo, program, made):
    release = made[0] / "store/tiny"
    refused = octavo("predict", release, "a", "--engine", "onnxruntime")
    assert refused.code == 2
    assert "certified on openvino" in refused.err
    assert octavo("predict", release, *QUERIES, "--engine", "onnxruntime", "--allow-uncertified").code == 0
    process = subprocess.run([program, "predict", release], input=b"fine\n\xff\n", capture_output=True, check=False)
    assert process.returncode == 2
    assert b"stdin:2: this line is not UTF-8" in process.stderr


def test_the_store_is_listed_verified_and_reported(octavo, made):
    store = made[0] / "store"
    assert octavo("verify", store, "--json").document["problems"] == 0
    listed = octavo("releases", store, "--json").document["releases"]
    assert [one["rung"] for one in listed] == ["fp32", "int8-ptq-max", "int8-qat"]
    assert sum(one["is_current"] for one in listed) == 1
    page = Path(octavo("report", store / "tiny").out.strip())
    assert page.read_text("utf-8").lstrip().lower().startswith("<!doctype html>")


def test_certify_decides_again_beside_the_release(octavo, made, tiny_task, tmp_path):
    release = made[0] / "store/tiny"
    proof = tmp_path / "proof"
    ran = octavo("certify", release, "--test", tiny_task / "test.jsonl", "--timing-s", "0.1", "--out", proof, "--json")
    assert ran.code == 0, ran.err
    written = read_certificate((proof / "certificate.json").read_bytes(), "certificate.json")
    assert ran.document["difference"]["value"] == written.difference.value
    assert (proof / "report.html").is_file()
    assert octavo("verify", made[0] / "store").code == 0
    strict = octavo("certify", release, "--test", tiny_task / "dev.jsonl", "--timing-s", "0.1", "--margin", "0.01")
    assert strict.code == 1
    assert "inconclusive" in strict.out


def test_serving_needs_no_torch_and_answers_the_same(octavo, made, environment, tmp_path):
    for name in ("torch", "transformers", "onnx"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemError('{name} was imported')", "utf-8")
    release = made[0] / "store/tiny"
    poisoned = ("PYTHONPATH", str(tmp_path))
    ran = octavo("predict", release, *QUERIES, "--json", variables=[poisoned])
    assert ran.code == 0, ran.err
    with package.load(release) as model:
        expected = model.predict(QUERIES)
    for answer, one in zip(ran.document["answers"], expected, strict=True):
        assert (answer["label"], answer["confidence"]) == (one.label, pytest.approx(one.confidence, abs=1e-6))
    code = f"import octavo; print([a.label for a in octavo.load({str(release)!r}).predict({QUERIES!r})])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment | dict([poisoned])
    )
    assert loaded.stdout.strip() == str(LABELS)


def test_the_end_of_the_demo_answers_and_says_what_to_type(made, capsys):
    from octavo.cli import demo
    from octavo.cli.samples import ENGLISH, Place
    from octavo.ladder.compress import Compression
    from octavo.progress import Silent

    releases = {rung: Path(folder) for rung, folder in made[1]["releases"].items()}
    certificates = [read_certificate((path / "certificate.json").read_bytes(), rung) for rung, path in releases.items()]
    model = replace(ENGLISH[0], questions=QUERIES)
    place = Place(Path("demo"), Silent())

    def shown(chosen):
        compression = Compression(certificates, chosen, releases, [])
        page = place.store / "overview.html"
        demo._show({model.name: compression}, (model,), place, page, place.out / "index")
        return capsys.readouterr().out

    passed = shown(made[1]["chosen"])
    for query, label in zip(QUERIES, LABELS, strict=True):
        assert re.search(rf"{query}  →  {label}  \d", passed)
    assert f"octavo predict demo/store/{model.name}" in passed
    assert "demo/store/overview.html" in passed
    assert "octavo serve demo/store --index demo/index   then open http://127.0.0.1:8000/" in passed
    assert "→" not in shown(None)


def _dev_scores(checkpoint: Path) -> list[float]:
    from safetensors import safe_open

    with safe_open(checkpoint, framework="pt") as opened:
        scores: list[float] = json.loads(opened.metadata()["state"])["dev_scores"]
    return scores
