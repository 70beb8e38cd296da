"""From the command line to a recipe: a file, or a teacher and options; options win. Pure but for reading the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from octavo.cli.options import fraction_from_points
from octavo.errors import InputError
from octavo.recipe import DataFiles, Recipe, is_hub_id, read_recipe

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What was typed; None for what was not."""

    train: Path | None = None
    dev: Path | None = None
    test: Path | None = None
    unlabelled: tuple[Path, ...] = ()
    task: str | None = None
    store: Path | None = None
    model: str | None = None
    margin_points: float | None = None
    margin_reason: str | None = None
    timing_s: float | None = None
    epochs: int | None = None
    control: bool | None = None
    trim_vocabulary: bool | None = None
    max_length: int | None = None
    seed: int | None = None


def recipe_from(source: Path, typed: Overrides) -> Recipe:
    """Return the recipe that `source`, a recipe's file or a teacher's folder, and the options mean.

    Raises:
        InputError: there is no such file or folder, the recipe cannot be read, or rows are not named.
    """
    if source.is_dir():
        return _overridden(_recipe_for_teacher(source, typed), typed)
    if source.suffix == ".toml" or source.is_file():
        return _overridden(read_recipe(source), typed)
    if is_hub_id(source):
        return _overridden(_recipe_for_teacher(source, typed), typed)
    raise InputError(
        f"{source}: there is no such file or folder. Give a recipe (recipe.toml), the teacher's folder, or a hub id "
        "(org/name)."
    )


def _recipe_for_teacher(teacher: Path, typed: Overrides) -> Recipe:
    if typed.dev is None or typed.test is None:
        missing = " and ".join(f"--{name}" for name, path in (("dev", typed.dev), ("test", typed.test)) if path is None)
        raise InputError(
            f"{missing}: not given. --dev names the rows that choose, --test the held-out rows that the certificate "
            "is decided on; both are needed with a teacher's folder."
        )
    return Recipe(teacher=teacher, data=DataFiles(dev=typed.dev, test=typed.test))


def _overridden(recipe: Recipe, typed: Overrides) -> Recipe:
    data = _replaced(
        recipe.data, train=typed.train, dev=typed.dev, test=typed.test, unlabelled=typed.unlabelled or None
    )
    certify = _replaced(recipe.certify, reason=typed.margin_reason, timing_s=typed.timing_s)
    if typed.margin_points is not None:
        margin = fraction_from_points(typed.margin_points)
        # The recipe's reason was for the recipe's margin.
        reason = certify.reason if margin == certify.margin else typed.margin_reason or ""
        certify = _replaced(certify, margin=margin, reason=reason)
    return _replaced(
        recipe,
        data=data,
        certify=certify,
        distill=_replaced(recipe.distill, epochs=typed.epochs, control=typed.control),
        task=typed.task,
        trim_vocabulary=typed.trim_vocabulary,
        store=typed.store,
        model=typed.model,
        max_length=typed.max_length,
        seed=typed.seed,
    )


def _replaced(struct: _Struct, **values: object) -> _Struct:
    return msgspec.structs.replace(struct, **{name: value for name, value in values.items() if value is not None})
