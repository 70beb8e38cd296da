"""A release as what gives documents and queries their vectors. Which release, and whether it may, is settled here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from octavo.errors import InputError, ReleaseError
from octavo.ladder.evidence import BATCH_INPUTS, outputs_in_batches
from octavo.ladder.recertify import reference_folder
from octavo.progress import Silent
from octavo.search.lineage import Lineage, check_may_query
from octavo.store.model import Model, load
from octavo.store.release import open_release, read_manifest
from octavo.store.versions import current, models
from octavo.tasks.embed import Document, Embed
from octavo.types import FloatArray


class Embedder(Protocol):
    """Gives documents their vectors."""

    @property
    def lineage(self) -> Lineage:
        """What made the vectors, for those who look for queries among them."""

    def vectors(self, texts: Sequence[str]) -> FloatArray:
        """Return the vector of each document, (texts, width)."""


@dataclass(frozen=True, slots=True)
class ReleaseEmbedder:
    """An embedder's release."""

    model: Model

    @property
    def lineage(self) -> Lineage:
        """The release."""
        release, task = self.model.release, embed_task(self.model)
        return Lineage(
            model=release.model,
            version=release.version,
            release_sha256=release.sha256,
            engine_id=self.model.engine.engine_id,
            precision=self.model.config.precision,
            similarity=task.similarity,
            dimensions=task.dimensions or self.model.config.hidden_size,
        )

    def vectors(self, texts: Sequence[str]) -> FloatArray:
        """Return the vector of each document, (texts, width)."""
        return embedded(self.model, [Document(text) for text in texts])


def embedded(model: Model, items: Sequence[str | Document]) -> FloatArray:
    """Return the vectors of queries (strings) and documents, (items, width); texts of a length share a batch."""
    batch = model.tokenizer.encode(model.task.prepare(items))
    order = np.argsort(batch.lengths, kind="stable")
    outputs = outputs_in_batches(model.engine.run, batch.select(order), BATCH_INPUTS, Silent()).values
    back = np.empty_like(outputs)
    back[order] = outputs
    return back


def embed_task(model: Model) -> Embed:
    """Return the task of an embedder. Raises InputError for a release of another task."""
    if not isinstance(model.task, Embed):
        raise InputError(f"{model.release.folder} is a release for task '{model.task.name}'; vectors need an embedder.")
    return model.task


def embedder_name(store: Path, named: str | None) -> str:
    """Return the one embedder of a store, or check the one that is named.

    Raises:
        InputError: there is none or there are several, or the one named is not there or no embedder.
        ReleaseError: there is no store.
    """
    found = models_for(store, Embed.name)
    if named is not None and named not in found:
        raise InputError(f"{store}: there is no embedder '{named}'. There are: {', '.join(found) or 'none'}.")
    if named is None and len(found) != 1:
        which = f"several ({', '.join(found)}); name one" if found else "none; compress a model with --task embed"
        raise InputError(f"{store}: one embedder has to make the vectors, and there are {which}.")
    return named or found[0]


def models_for(store: Path, task: str) -> list[str]:
    """Return the models of a store whose current release is for a task. Raises ReleaseError where there is no store."""
    return [name for name in models(store) if _task_of(store, name) == task]


def documents_release(folder: Path, *, by_reference: bool) -> Path:
    """Return the release that is to make vectors for the queries of the release in `folder`.

    That is its FP32 reference, whose vectors stay good for every version that was certified against it, or itself.

    Raises:
        ReleaseError: there is no reference, or the release is not certified for queries among its vectors.
    """
    release = open_release(folder)
    if not by_reference:
        return release.folder
    reference = reference_folder(release)
    with load(release.folder) as model:
        opened = open_release(reference)
        made_by = Lineage(
            model=opened.model,
            version=opened.version,
            release_sha256=opened.sha256,
            engine_id="",
            precision="fp32",
            similarity=embed_task(model).similarity,
            dimensions=model.config.hidden_size,
        )
        check_may_query(made_by, release.folder, model.certificate)
    return reference


def _task_of(store: Path, name: str) -> str:
    version = current(store, name)
    if version is None:
        return ""
    try:
        return read_manifest(store / name / version).task
    except ReleaseError:
        return ""


def lineage_release(store: Path, made_by: Lineage) -> Path:
    """Return the release of a store that made an index's vectors, to make more of them.

    Raises:
        ReleaseError: it is not there any more.
    """
    folder = store / made_by.model / made_by.version
    if not folder.is_dir() or read_manifest(folder).release_sha256 != made_by.release_sha256:
        raise ReleaseError(
            f"{folder}: the release that made the index's vectors is not here any more. "
            "Name the store that has it, or index the whole corpus again."
        )
    return folder


@dataclass(frozen=True, slots=True)
class NoEmbedder:
    """Stands where no vector is made, because documents are only deleted."""

    lineage: Lineage

    def vectors(self, texts: Sequence[str]) -> FloatArray:
        """Refuse: there should have been nothing to do."""
        raise InputError(f"There are {len(texts)} documents to embed, and no release to do it.")
