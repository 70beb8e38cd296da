"""A smaller vocabulary for the rows and logs at hand: what is trimmed is certified against the teacher as it came."""

import json

import msgspec
import pytest

import octavo as package
from octavo.ladder import compress as ladder
from octavo.ladder.compress import compress
from octavo.ladder.recertify import recertify
from octavo.progress import Silent
from octavo.recipe import Certification, DataFiles, Distillation, Quantization, Recipe
from octavo.types import Observer, Scheme, Verdict


@pytest.fixture
def recipe_for(rows_of, teacher_of, tmp_path):
    """Return a recipe that trims the vocabulary."""

    def recipe(name, *logs):
        rows = rows_of(name)
        return Recipe(
            teacher=teacher_of(name)[0],
            data=DataFiles(train=rows.train, dev=rows.dev, test=rows.test, unlabelled=logs),
            store=tmp_path / "store",
            model="small",
            trim_vocabulary=True,
            max_length=32,
            quantize=Quantization(schemes=(Scheme.PER_TENSOR,), observers=(Observer.MAX,)),
            distill=Distillation(epochs=0),
            certify=Certification(margin=0.1, timing_s=0.1),
        )

    return recipe


def tokens_of(release):
    return json.loads((release / "tokenizer.json").read_bytes())["model"]["vocab"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classify", "tag", "embed-beir", "rank-lists"])
def test_a_trimmed_release_is_certified_against_the_whole_teacher(rows_of, recipe_for, teacher_of, tmp_path, name):
    rows, recipe = rows_of(name), recipe_for(name)
    small = compress(recipe)
    whole = compress(msgspec.structs.replace(recipe, trim_vocabulary=False, store=tmp_path / "whole"))
    assert [one.rung for one in small.certificates] == ["fp32-trimmed", "int8-ptq-max"]
    assert [one.rung for one in whole.certificates] == ["fp32", "int8-ptq-max"]
    for less, more in zip(small.certificates, whole.certificates, strict=True):
        assert less.verdict is Verdict.PASS
        assert less.teacher == more.teacher
        assert less.model_bytes < more.model_bytes
        assert less.sha256.data == more.sha256.data
    assert small.chosen == "int8-ptq-max"
    assert set(tokens_of(small.release)) < set(tokens_of(whole.release))
    with package.load(small.release) as model:
        assert len(model.predict(rows.items)) == len(rows.items)
        unseen = {"rank": ("quaver", ["semiquaver"])}.get(rows.task, "quaver semiquaver")
        assert len(model.predict([unseen])) == 1
    again = recertify(small.release, rows.test, teacher=teacher_of(name)[0], timing_s=0.1)
    assert again.teacher.value == pytest.approx(whole.certificates[0].teacher.value, abs=0.01)
    assert again.verdict is Verdict.PASS


def test_tokens_of_query_logs_are_kept(rows_of, recipe_for, tmp_path):
    kept, dropped = "good", "poor"  # in the teacher's vocabulary, and in no row of this task
    rows = rows_of("classify").train.read_text("utf-8")
    assert kept not in rows
    assert dropped not in rows
    log = tmp_path / "log.txt"
    log.write_text(f"play {kept} jazz\n", "utf-8")
    material = ladder.gather(recipe_for("classify", log), tmp_path / "work", Silent())
    assert material.is_trimmed
    tokens = tokens_of(material.base.folder.path)
    assert kept in tokens
    assert dropped not in tokens
    # The teacher answers with its own tokens, which are as many as the rungs'.
    train = material.train
    assert len(train.teacher) == len(train.data.batch)
    assert len(train.data.groups) == len(rows.splitlines()) + 1
