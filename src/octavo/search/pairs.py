"""The releases that a search is measured with: of each model that takes part, the INT8 one and its FP32 reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import InputError
from octavo.ladder.recertify import reference_folder
from octavo.search.embedder import models_for
from octavo.search.index import Index
from octavo.search.session import store_of
from octavo.store.release import open_release, release_folder
from octavo.tasks.rank import Rank


@dataclass(frozen=True, slots=True)
class Pair:
    """The two releases of a model that are compared."""

    model: str
    fp32: Path
    int8: Path


def pairs_of(
    index: Index, store: Path | None, versions: Mapping[str, str], *, ranker: str | None = None, ranks: bool = True
) -> tuple[Pair, Pair | None]:
    """Return the releases that embed and that rank for an index; None for the latter where nothing does.

    Args:
        index: what is searched.
        store: of the releases; None for the one that the index was made with.
        versions: model → version, for models that should not answer with their current one.
        ranker: which one, where there are several.
        ranks: whether ranking is part of the search.

    Raises:
        InputError: there is no such store or ranker, or a version is named of a model that takes no part.
        ReleaseError: a release is missing.
    """
    folder = store_of(index, store)
    embedding = index.manifest.vectors_by.model
    ranking = ranker_of(folder, ranker) if ranks else None
    if unknown := set(versions) - {embedding, ranking}:
        raise InputError(f"'{min(unknown)}' takes no part in this search; {embedding} embeds, {ranking} ranks.")
    return (
        pair_of(folder, embedding, versions.get(embedding)),
        pair_of(folder, ranking, versions.get(ranking)) if ranking else None,
    )


def pair_of(store: Path, model: str, version: str | None = None) -> Pair:
    """Return a model's INT8 release, the current one or the one named, and the FP32 reference that it names.

    Raises:
        ReleaseError: either is missing.
    """
    release = open_release(store / model / version if version else release_folder(store / model))
    return Pair(model, reference_folder(release), release.folder)


def ranker_of(store: Path, named: str | None) -> str | None:
    """Return the one ranker of a store; None where it has none.

    Raises:
        InputError: there are several and none is named, or the one that is named is not there.
    """
    found = models_for(store, Rank.name)
    if named is not None and named not in found:
        raise InputError(f"{store}: there is no ranker '{named}'. There are: {', '.join(found) or 'none'}.")
    if named is None and len(found) > 1:
        raise InputError(f"{store}: there are several rankers: {', '.join(found)}. Name the one to use.")
    return named or next(iter(found), None)
