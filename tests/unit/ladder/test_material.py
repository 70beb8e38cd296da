"""Whatever the task, the teacher answers inside the ladder as it does in `transformers`."""

import json

import numpy as np
import pytest

from octavo.encoder.folder import model_from_encoder, read_folder, save_model
from octavo.ladder.baselines import torch_fp32
from octavo.ladder.material import gather
from octavo.progress import Silent
from octavo.recipe import DataFiles, Recipe
from octavo.tasks.base import Reads
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.rank import Rank
from octavo.tasks.tag import Tag

TEXTS = ["book a table for two", "play some music", "what is the weather", "turn it off", "cancel the order", "play"]
TASKS = {
    "classify": Classify(("a", "b", "c")),
    "tag": Tag(("O", "B-x", "I-x")),
    "rank": Rank("identity"),
    "embed by the mean": Embed(Reads.MEAN, normalize=True, dimensions=32),
    "embed by the first": Embed(Reads.FIRST, normalize=False, dimensions=32),
    "embed by the last": Embed(Reads.LAST, normalize=False, dimensions=32),
}


def rows_of(task):
    for number, text in enumerate(TEXTS):
        other = TEXTS[number - 1]
        if task.name == "classify":
            yield {"text": text, "label": "abc"[number % 3]}
        elif task.name == "tag":
            words = text.split()
            yield {"tokens": words, "tags": ["B-x", *["O"] * (len(words) - 1)]}
        elif task.name == "rank":
            yield {"query": text, "documents": [other, TEXTS[number - 2]], "relevance": [1, 0]}
        else:
            yield {"query": text, "document": f"{other} {text}"}


@pytest.fixture
def gathered(make_folder, tmp_path):
    """Return the material of a task's random teacher."""

    def make(task, **changes):
        template = read_folder(make_folder("bert"))
        save_model(model_from_encoder(template, task.head, seed=1), task, template, tmp_path / "teacher")
        files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "dev", "test")}
        for file in files.values():
            file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(task)), "utf-8")
        recipe = Recipe(teacher=tmp_path / "teacher", data=DataFiles(**files), store=tmp_path / "store", **changes)
        return gather(recipe, tmp_path / "work", Silent())

    return make


@pytest.mark.parametrize("name", TASKS)
def test_the_teacher_answers_as_in_transformers(gathered, name):
    material = gathered(TASKS[name])
    assert material.task == TASKS[name]
    answer = torch_fp32(material.teacher.folder.path, material.task.head, material.teacher.tokenizer.max_length)
    for given, outputs in ((material.dev.split.inputs, material.dev.teacher), (None, material.train.teacher)):
        inputs = list(given or material.train.split.inputs)
        assert len(outputs) == len(inputs)
        for number, one in enumerate(inputs):
            expected = answer([one]).numpy()[0]
            if name == "tag":  # every token there, the read ones here
                batch = material.teacher.tokenizer.encode([one])
                expected = expected[batch.read_places]
            np.testing.assert_allclose(outputs[number], np.atleast_2d(expected), atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_the_groups_of_training_cover_its_inputs(gathered, name):
    train = gathered(TASKS[name]).train
    assert set(train.data.groups.inputs.tolist()) == set(range(len(train.data.batch)))
    assert len(train.teacher) == len(train.data.batch)


def test_held_out_inputs_that_are_cut_before_the_teacher_would_are_told(gathered):
    (told,) = [one for one in gathered(TASKS["classify"], max_length=5).warnings if "max_length" in one]
    assert "of the 6 held-out inputs fill max_length (5 tokens)" in told
    assert "--max-length" in told
    assert not [one for one in gathered(TASKS["classify"], max_length=32).warnings if "max_length" in one]
