"""What users are promised, for every task: fine-tune, compress, load, predict, certify again, verify, report."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import octavo as package
from octavo.certify.certificate import read_certificate
from octavo.engines.torch import TorchEngine
from octavo.ladder import compress as ladder
from octavo.ladder.builds import Build
from octavo.ladder.compress import Compression, compress
from octavo.recipe import Certification, DataFiles, Distillation, Quantization, Recipe
from octavo.tasks.base import Purpose
from octavo.types import Observer, Scheme, Verdict

NAMES = [
    pytest.param("classify", marks=pytest.mark.slow),  # test_compress.py tells the same story, in processes of its own
    "tag",
    "embed-beir",
    pytest.param("embed-pairs", marks=pytest.mark.slow),
    "rank-lists",
    pytest.param("rank-pairs", marks=pytest.mark.slow),
]
ACROSS = "ndcg@10 with the teacher's documents"
# Of each task and form: what is counted, and every measure with whether it gates. The first one decides.
MEASURES = {
    "classify": ("row", [("accuracy", True)]),
    "tag": ("sentence", [("f1", True), ("intent accuracy", True)]),
    "embed-beir": ("query", [("ndcg@10", True), (ACROSS, True), ("mrr@10", False), ("recall@10", False)]),
    "embed-pairs": ("query", [("ndcg@10", True), (ACROSS, True), ("mrr@10", False), ("recall@10", False)]),
    "rank-lists": ("query", [("ndcg@10", True), ("mrr@10", False), ("map", False)]),
    "rank-pairs": ("pair", [("accuracy", True), ("auc", False)]),
}
WITHOUT_TORCH = """
import json, sys
for name in ("torch", "transformers", "sentence_transformers", "safetensors"):
    sys.modules[name] = None
import octavo
with octavo.load(sys.argv[1]) as model:
    print(json.dumps([answer.line() for answer in model.predict(json.loads(sys.argv[2]))]))
"""


@dataclass(frozen=True)
class Story:
    """One task from rows to releases."""

    rows: Any
    finetuned: Any
    made: Compression
    builds: list[Build]
    store: Path

    @property
    def model(self) -> Path:
        return self.store / "teacher"


@pytest.fixture(scope="module", params=NAMES)
def story(request, rows_of, teacher_of, tmp_path_factory):
    rows, folder = rows_of(request.param), tmp_path_factory.mktemp("story")
    teacher, finetuned = teacher_of(request.param)
    recipe = Recipe(
        teacher=teacher,
        data=DataFiles(train=rows.train, dev=rows.dev, test=rows.test),
        store=folder / "store",
        max_length=32,
        quantize=Quantization(schemes=(Scheme.PER_TENSOR,), observers=(Observer.MAX,)),
        distill=Distillation(epochs=1, control=False, learning_rate=1e-4),
        certify=Certification(margin=0.1, timing_s=0.1),
    )
    builds: list[Build] = []

    def recorded(*arguments: Any) -> Build:
        builds.append(build(*arguments))
        return builds[-1]

    build = ladder.build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "build", recorded)
        made = compress(recipe)
    return Story(rows, finetuned, made, builds, folder / "store")


@pytest.fixture(scope="module")
def model(story):
    with package.load(story.model) as loaded:
        yield loaded


def test_fine_tuning_learns_and_says_the_task(story):
    assert story.finetuned["task"] == story.rows.task
    assert story.finetuned["dev_score"] > 0.9


def test_the_certificates_say_what_was_measured(story):
    unit, measures = MEASURES[story.rows.name]
    assert [one.rung for one in story.made.certificates] == ["fp32", "int8-ptq-max", "int8-qat"]
    for one in story.made.certificates:
        assert (one.task, one.unit, one.metric) == (story.rows.task, unit, measures[0][0])
        assert [(measure.name, measure.gates) for measure in one.measures] == measures
        assert all((measure.verdict is not None) == measure.gates for measure in one.measures)
        assert one.rows == 120
        assert one.teacher.value > 0.9
        assert sum(band.rows for band in one.slices.length) == one.rows
    assert story.made.certificates[0].difference.value == 0


def test_slices_are_labels_and_intents(story):
    names = {"classify": {"music", "light", "booking"}, "tag": {"music", "light", "booking"}}
    for one in story.made.certificates:
        assert {part.name for part in one.slices.label} == names.get(story.rows.task, set())


def test_what_is_timed_is_what_users_send(story):
    item = "pair" if story.rows.task == "rank" else "query"
    assert {one.item for one in story.made.certificates} == {item}


def test_releases_hold_their_certificates(story):
    assert story.made.chosen in ("int8-ptq-max", "int8-qat")
    for rung, folder in story.made.releases.items():
        written = read_certificate((folder / "certificate.json").read_bytes(), "certificate.json")
        assert written in story.made.certificates
        assert (written.rung, written.version) == (rung, folder.name)
        card = (folder / "README.md").read_text("utf-8")
        assert f"Task `{story.rows.task}`" in card
        assert "Verdict: pass" in card


def test_a_release_answers_as_the_fake_quantized_model(story, inputs_of, reaction_to_flips):
    for build in story.builds:
        rung = build.candidate.rung
        with package.load(story.made.releases[rung]) as model:
            inputs = model.task.read(story.rows.test, Purpose.TEST).inputs[:64]
            batch = model.tokenizer.encode(inputs)
            answered = model.engine.run(batch)
            encoder = build.candidate.model.config
            expected = TorchEngine(build.candidate.model, encoder.positions, rung).run(batch)
            tolerance = 1e-5
            if rung != "fp32":
                tolerance = reaction_to_flips(build.candidate.model, inputs_of(batch, encoder.positions))
            np.testing.assert_allclose(answered, expected, atol=tolerance, rtol=1e-4)


def test_python_and_the_program_answer_the_same(story, model, octavo_here):
    expected = model.predict(story.rows.items)
    told = octavo_here("predict", story.model, "--json", "--", *story.rows.typed)
    assert told.code == 0, told.err
    document = told.document
    assert document["task"] == story.rows.task
    for answer in document["answers"]:
        assert answer.pop("ms") > 0
        assert answer.pop("text") in story.rows.typed
    assert document["answers"] == json.loads(msgspec.json.encode(expected))
    shown = octavo_here("predict", story.model, "--", *story.rows.typed)
    assert [line.strip() for line in shown.out.splitlines() if " ms  " not in line] == [one.line() for one in expected]


def test_answers_are_right(story, model):
    first, *others = model.predict(story.rows.items)
    match story.rows.task:
        case "classify":
            assert [first.label, others[0].label] == ["music", "booking"]
        case "tag":
            assert [(one.type, one.text) for one in first.entities][-1] == ("place", "kitchen")
            assert first.intent == "music"
            assert others[0].words == ("reserve", "the", "garden")
        case "embed":
            query, document = np.array(first.vector), np.array(others[0].vector)
            assert query.shape == (32,)
            assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
            assert query @ document > 0.5
        case "rank":
            assert first.results[0].index == 1
            assert 0 <= first.results[-1].relevance_score < first.results[0].relevance_score <= 1


def test_serving_needs_no_torch(story, model, environment):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(story.model), json.dumps(story.rows.items)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [answer.line() for answer in model.predict(story.rows.items)]


def test_certifying_again_decides_the_same(story, octavo_here, tmp_path):
    ran = octavo_here(
        "certify", story.model, "--test", story.rows.test, "--timing-s", "0.1", "--out", tmp_path / "proof", "--json"
    )
    assert ran.code == 0, ran.err
    again = read_certificate((tmp_path / "proof/certificate.json").read_bytes(), "certificate.json")
    first = next(one for one in story.made.certificates if one.rung == story.made.chosen)
    assert again.verdict is Verdict.PASS
    assert again.measures == first.measures
    assert (again.unit, again.item, again.task, again.metric) == (first.unit, first.item, first.task, first.metric)
    assert again.sha256 == first.sha256


def test_the_store_is_whole_and_reported(story, octavo_here):
    assert octavo_here("verify", story.store, "--json").document["problems"] == 0
    page = Path(octavo_here("report", story.model, "--json").document["report"]).read_text("utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    listed = octavo_here("releases", story.store, "--json").document["releases"]
    assert [one["rung"] for one in listed] == ["fp32", "int8-ptq-max", "int8-qat"]
