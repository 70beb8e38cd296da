"""docs/recipe.md shows every key with its default."""

import re
from pathlib import Path

import msgspec

from octavo.recipe import DataFiles, Recipe, read_recipe

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"


def _keys(value: object) -> object:
    return {key: _keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def test_the_page_shows_every_key_with_its_default(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    file = tmp_path / "recipe.toml"
    file.write_text(block[1], "utf-8")
    shown = read_recipe(file)
    data = DataFiles(train=tmp_path / "train.jsonl", dev=tmp_path / "dev.jsonl", test=tmp_path / "test.jsonl")
    assert shown == Recipe(teacher=tmp_path / "my-teacher", data=data, store=tmp_path / "store")
    written = msgspec.toml.decode(block[1].encode())
    assert _keys(written) == _keys(msgspec.to_builtins(shown, enc_hook=str))
