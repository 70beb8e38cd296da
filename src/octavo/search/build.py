"""Making an index, or a new version of one: streamed, resumable, and published whole or not at all.

    documents ─► vectors (by a release)  ─► .work/vectors.f32 ─► faiss  ┐
              └► terms and what is shown ─► tantivy ────────────────────┴► .draft ─► hashes ─► <version>, `current`

How far the work is gets recorded every half minute. A run that was cut off anywhere goes on from there, if nothing that
it depends on has changed; what lies beyond the record is cut off first. One process at a time writes to an index;
readers keep the version that they opened.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

from octavo import __version__
from octavo.errors import InputError, Interrupted, OctavoError, ReleaseError
from octavo.progress import Progress, Silent
from octavo.search.documents import Document, FieldNames, corpus_bytes, read_documents, read_ids
from octavo.search.embedder import Embedder
from octavo.search.index import LEXICAL, NUMBERS, VECTORS, Index, open_index
from octavo.search.lexical import Lexical, LexicalWriter, link_lexical
from octavo.search.manifest import FILE_NAME, IndexManifest, entries_of, manifest_bytes, sealed
from octavo.search.vectors import VectorBuilder, Vectors, kind_for, unit_vectors
from octavo.search.work import Work, opened_work
from octavo.store.names import version_folders
from octavo.store.versions import point_current
from octavo.tasks.embed import COSINE
from octavo.types import FloatArray

_CHUNK = 512  # documents that are embedded at once
_RECORD_EVERY_S = 30.0
_SAVE_GRAPH_EVERY_S = 300.0  # a graph of a million vectors takes half a minute to write
_KEPT_VERSIONS = 2  # the current one, and the one before it for those who still read it
_PARTIAL = "partial"

Clock = Callable[[], float]  # seconds, monotonic


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be in the next version of an index.

    Attributes:
        corpus: documents; None where some are deleted only.
        names: of the corpus' fields.
        delete: a file of ids, which are deleted before the corpus is read.
        update: keep what is there: documents of the corpus are added, or replace those of the same id. Else the
            corpus is all that there is.
    """

    corpus: Path | None
    names: FieldNames = field(default_factory=FieldNames)
    delete: Path | None = None
    update: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """A version that was published.

    Attributes:
        folder: of the version.
        manifest: what it holds.
        added: documents that are new.
        replaced: documents that had been there under the same id.
        deleted: documents that were to be deleted.
        unknown: ids that were to be deleted, and were not there.
    """

    folder: Path
    manifest: IndexManifest
    added: int
    replaced: int
    deleted: int
    unknown: int


def build_index(
    folder: Path,
    change: Change,
    embedder: Embedder,
    *,
    store: Path | None = None,
    progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> Built:
    """Write the next version of the index in `folder`, and let `current` point to it.

    Args:
        folder: of the index; made where it is missing.
        change: what is to be in it.
        embedder: makes the vectors; for an update the release that made the others.
        store: where the embedder's release lies, to be remembered.
        progress: where to report.
        clock: says when to record how far the work is.

    Raises:
        InputError: an unfit document, id or file, nothing to do, another process that writes, or no index to update.
        ReleaseError: the index to update is damaged, or its vectors were made by another release.
        Interrupted: Ctrl-C; the same command goes on.
    """
    progress = progress or Silent()
    _check(folder, change)
    base = open_index(folder, progress) if change.update else None
    if base is not None:
        _check_same_lineage(base, embedder)
    with opened_work(folder, _fingerprint(change, embedder, base), embedder.lineage.dimensions) as work:
        build = _Build(work, change, embedder, base, progress, clock)
        try:
            return build.run(store)
        except KeyboardInterrupt:
            kept = f"{work.state.documents:,} documents are kept"
            raise Interrupted(f"Stopped. {kept}; run the same command again to go on.") from None
        except OctavoError:
            work.discard()  # a draft of what cannot be used is of no use either
            raise


@dataclass(frozen=True, slots=True)
class _Build:
    """What the steps of one build share."""

    work: Work
    change: Change
    embedder: Embedder
    base: Index | None
    progress: Progress
    clock: Clock

    @property
    def first_number(self) -> int:
        return self.base.manifest.next_number if self.base else 0

    def run(self, store: Path | None) -> Built:
        work = self.work
        lexical = work.draft / LEXICAL
        if self.base is not None and not lexical.exists():
            link_lexical(self.base.folder / LEXICAL, lexical)
        writer = LexicalWriter(lexical)
        writer.delete_from(self.first_number + work.state.documents)
        unknown = self.delete(writer)
        if self.change.corpus is not None:
            self.read_corpus(self.change.corpus, writer)
        writer.close()
        documents = len(Lexical(lexical))
        if not documents and self.base is None:
            raise InputError(f"{self.change.corpus}: there is no document in it.")
        self.check_count(documents)
        self.build_vectors(documents)
        replaced = len(work.dead()) - work.state.deleted
        added, deleted = work.state.documents - replaced, work.state.deleted
        manifest = self.publish(documents, store)
        return Built(work.index / manifest.version, manifest, added, replaced, deleted, unknown)

    def check_count(self, documents: int) -> None:
        """Refuse a draft that is not what it was recorded to be, whatever happened to it."""
        before = self.base.manifest.documents if self.base else 0
        if documents != (due := before - len(self.work.dead()) + self.work.state.documents):
            raise ReleaseError(f"{self.work.draft}: {documents:,} documents instead of {due:,}. Run it again.")

    def delete(self, writer: LexicalWriter) -> int:
        """Delete what is to be deleted, unless that was done before; return how many ids were not there."""
        if self.change.delete is None or self.base is None:
            return 0
        ids = read_ids(self.change.delete)
        found = self.base.lexical.numbers(ids)
        if not self.work.state.has_deleted:
            writer.delete(found)
            writer.commit()
            self.work.note_dead(np.array(sorted(found.values()), np.int64))
            self.work.record_deleted()
        return len(ids) - len(found)

    def read_corpus(self, corpus: Path, writer: LexicalWriter) -> None:
        """Add the documents of the corpus that are not in the draft yet, with their vectors."""
        done = self.work.state.documents
        recorded_s = self.clock()
        with self.progress.step("index documents (bytes)", corpus_bytes(corpus)) as step:
            documents = islice(read_documents(corpus, self.change.names, step.advance), done, None)
            for chunk in _chunks(documents):
                self.work.append(self.vectors_of(chunk))
                self.note_replaced(chunk)
                for number, document in enumerate(chunk, self.first_number + done):
                    writer.add(number, document)
                done += len(chunk)
                step.advance(0, f"{done:,} documents")
                if self.clock() - recorded_s > _RECORD_EVERY_S:
                    writer.commit()
                    self.work.record(done)
                    recorded_s = self.clock()
            writer.commit()
            self.work.record(done)

    def vectors_of(self, chunk: list[Document]) -> FloatArray:
        vectors = self.embedder.vectors([document.content for document in chunk])
        if vectors.shape != (len(chunk), self.work.width) or not np.isfinite(vectors).all():
            expected = (len(chunk), self.work.width)
            raise InputError(f"The embedder gave vectors of shape {vectors.shape} and not {expected}, or no numbers.")
        return unit_vectors(vectors) if self.embedder.lineage.similarity == COSINE else vectors

    def note_replaced(self, chunk: list[Document]) -> None:
        if self.base is not None:
            # Looked up in the version before: a run that was cut off may have replaced them in the draft already.
            found = self.base.lexical.numbers([document.id for document in chunk])
            self.work.note_dead(np.array(sorted(found.values()), np.int64))

    def build_vectors(self, documents: int) -> None:
        """Put the vectors of all documents into one faiss index."""
        new = self.work.vectors()
        builder = self.builder(new, documents)
        done = builder.count_from(self.first_number)
        saved_s = self.clock()
        with self.progress.step(f"build vectors ({kind_for(documents)})", len(new)) as step:
            step.advance(done)
            for _ in builder.add_all(new[done:], self.first_number + done, step):
                if self.clock() - saved_s > _SAVE_GRAPH_EVERY_S:
                    self.save(builder)
                    saved_s = self.clock()
        builder.write(self.work.draft / VECTORS, self.work.draft / NUMBERS)

    def builder(self, new: FloatArray, documents: int) -> VectorBuilder:
        partial = self.work.folder / _PARTIAL
        if partial.exists():
            try:
                return VectorBuilder.resumed(partial / VECTORS, partial / NUMBERS)
            except ReleaseError:
                shutil.rmtree(partial)
        if self.base is None:
            return VectorBuilder.starting(self.work.width, documents, new)
        # Read anew, as the builder changes it.
        vectors = Vectors.read(self.base.folder / VECTORS, self.base.folder / NUMBERS)
        return VectorBuilder.going_on(vectors, self.work.dead(), documents)

    def save(self, builder: VectorBuilder) -> None:
        """Keep an unfinished faiss index, in the place of the one kept before."""
        partial, draft = self.work.folder / _PARTIAL, self.work.folder / f"{_PARTIAL}-new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        builder.write(draft / VECTORS, draft / NUMBERS)
        shutil.rmtree(partial, ignore_errors=True)
        draft.rename(partial)

    def publish(self, documents: int, store: Path | None) -> IndexManifest:
        """Hash the draft, give it the next version's name, and let `current` point to it."""
        index, draft = self.work.index, self.work.draft
        versions = [int(version) for version in version_folders(index)]
        manifest = sealed(
            IndexManifest(
                version=str(max(versions, default=0) + 1),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                octavo=__version__,
                documents=documents,
                next_number=self.first_number + self.work.state.documents,
                kind=kind_for(documents),
                vectors_by=self.base.manifest.vectors_by if self.base else self.embedder.lineage,
                # Relative, so that both can be moved together.
                store=os.path.relpath(store.resolve(), index.resolve()) if store else "",
                files=entries_of(draft, self.progress),
            )
        )
        with (draft / FILE_NAME).open("wb") as file:
            file.write(manifest_bytes(manifest))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(index / manifest.version)
        point_current(index, manifest.version)
        self.work.discard()
        for old in version_folders(index)[:-_KEPT_VERSIONS]:
            shutil.rmtree(index / old, ignore_errors=True)
        return manifest


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    remaining = iter(documents)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


def _check(folder: Path, change: Change) -> None:
    if change.corpus is None and change.delete is None:
        raise InputError("There is nothing to do: give a corpus, or ids to delete.")
    if change.delete is not None and not change.update:
        raise InputError("Deleting leaves the other documents where they are: it is an update. Say so.")
    if change.corpus is not None:
        corpus_bytes(change.corpus)
    if change.delete is not None:
        read_ids(change.delete)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: this is a file, and an index is a folder.")
    if (folder / FILE_NAME).exists():
        raise InputError(f"{folder}: this is one version of an index, which never changes. Name the folder above it.")


def _check_same_lineage(base: Index, embedder: Embedder) -> None:
    ours, theirs = embedder.lineage, base.manifest.vectors_by
    if ours.release_sha256 != theirs.release_sha256:
        raise ReleaseError(
            f"{base.folder}: its vectors were made by {theirs.model} {theirs.version}, and {ours.model} {ours.version} "
            "would make the new ones. Update it with that release, or index the whole corpus again."
        )


def _fingerprint(change: Change, embedder: Embedder, base: Index | None) -> str:
    """Name all that a build depends on; files by size and time of change, as to hash them would read them twice."""
    files = [file for file in (change.corpus, change.delete) if file is not None]
    told = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    parts = (told, change.names, change.update, embedder.lineage, base.manifest.index_sha256 if base else "")
    return hashlib.sha256(f"{parts} {__version__}".encode()).hexdigest()
