from pathlib import Path

import pytest

from octavo.cli.recipes import Overrides, recipe_from
from octavo.errors import InputError

RECIPE = """
teacher = "my-teacher"
store = "releases"
max_length = 64
[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"
[certify]
margin = 0.01
reason = "few rows"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, "utf-8")
    return path


def test_a_recipe_alone_is_taken_as_it_is_from_its_folder(file, tmp_path):
    recipe = recipe_from(file, Overrides())
    assert recipe.teacher == tmp_path / "my-teacher"
    assert recipe.store == tmp_path / "releases"
    assert recipe.data.test == tmp_path / "test.jsonl"
    assert recipe.model_name == "my-teacher"
    assert (recipe.max_length, recipe.certify.margin, recipe.distill.control) == (64, 0.01, True)


def test_options_win_over_the_recipe(file, tmp_path):
    typed = Overrides(
        test=Path("other.jsonl"),
        unlabelled=(Path("log.txt"),),
        store=Path("s"),
        model="m",
        epochs=0,
        control=False,
        max_length=32,
        seed=7,
        timing_s=1.5,
        task="embed",
        trim_vocabulary=True,
    )
    recipe = recipe_from(file, typed)
    assert recipe.data.test == Path("other.jsonl")
    assert recipe.data.train == tmp_path / "train.jsonl"
    assert recipe.data.unlabelled == (Path("log.txt"),)
    assert (recipe.store, recipe.model_name, recipe.max_length, recipe.seed) == (Path("s"), "m", 32, 7)
    assert (recipe.distill.epochs, recipe.distill.control, recipe.certify.timing_s) == (0, False, 1.5)
    assert recipe.certify.reason == "few rows"
    assert (recipe.task, recipe.trim_vocabulary) == ("embed", True)


def test_the_folder_says_its_task_where_nobody_else_does(file):
    assert recipe_from(file, Overrides()).task == ""
    assert not recipe_from(file, Overrides()).trim_vocabulary


@pytest.mark.parametrize(
    ("points", "reason", "expected"),
    [(2.0, None, (0.02, "")), (2.0, "why not", (0.02, "why not")), (1.0, None, (0.01, "few rows"))],
)
def test_another_margin_drops_the_reason_of_the_old_one(file, points, reason, expected):
    certify = recipe_from(file, Overrides(margin_points=points, margin_reason=reason)).certify
    assert (certify.margin, certify.reason) == expected


def test_a_folder_and_options_make_a_recipe(tmp_path):
    recipe = recipe_from(tmp_path, Overrides(train=Path("a"), dev=Path("b"), test=Path("c"), margin_points=0.5))
    assert recipe.teacher == tmp_path
    assert recipe.model_name == tmp_path.name
    assert recipe.store == Path("store")
    assert recipe.certify.margin == 0.005


@pytest.mark.parametrize(
    ("typed", "missing"),
    [(Overrides(), "--dev and --test:"), (Overrides(dev=Path("b")), "--test:"), (Overrides(test=Path("b")), "--dev:")],
)
def test_a_folder_needs_the_rows_that_choose_and_those_that_decide(tmp_path, typed, missing):
    with pytest.raises(InputError, match=f"^{missing}"):
        recipe_from(tmp_path, typed)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('teacher = "a"\nbogus = 1\n[data]\ndev = "d"\ntest = "t"', "bogus"),
        ('teacher = "a"\n[data]\ndev = "d"\ntest = "t"\n[certify]\nmargin = "half"', r"\$\.certify\.margin"),
        ('teacher = "a"\n[data]\ndev = 3\ntest = "t"', r"\$\.data\.dev"),
        ('teacher = "a"\n[data]\ndev = "d"', "test"),
        ('teacher = "a"\n[data]\ndev = "d"\ntest = "t"\n[certify]\nmargin = 2.0', r"\$\.certify\.margin"),
        ("teacher =", "Invalid value"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_with_its_key(tmp_path, content, words):
    file = tmp_path / "recipe.toml"
    file.write_text(content, "utf-8")
    with pytest.raises(InputError, match=rf"recipe\.toml: .*{words}"):
        recipe_from(file, Overrides())


def test_a_hub_id_is_taken_for_a_teacher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = Overrides(train=Path("a"), dev=Path("b"), test=Path("c"))
    assert recipe_from(Path("org/some-model.v1"), rows).teacher == Path("org/some-model.v1")
    for path in ("/org/name", "org/name/more", "org/na me"):
        with pytest.raises(InputError, match="no such file or folder"):
            recipe_from(Path(path), rows)


@pytest.mark.parametrize("name", ["missing.toml", "missing"])
def test_what_is_not_there_is_said_to_be_missing(tmp_path, name):
    with pytest.raises(InputError, match=name):
        recipe_from(tmp_path / name, Overrides())


def test_a_recipe_in_another_encoding_is_refused(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_bytes(b'teacher = "\xff"')
    with pytest.raises(InputError, match=r"recipe\.toml"):
        recipe_from(file, Overrides())
