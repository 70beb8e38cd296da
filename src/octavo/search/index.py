"""An index that is open to be searched: BM25, vectors and the documents, of one version that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import InputError, ReleaseError
from octavo.progress import Progress, Silent
from octavo.search.documents import Document
from octavo.search.lexical import Hits, Lexical
from octavo.search.manifest import FILE_NAME, REPAIR, IndexManifest, check_files, read_index_manifest
from octavo.search.settings import Tuned, read_tuned
from octavo.search.vectors import Vectors, unit_vectors
from octavo.store.names import CURRENT, VERSION, version_folders
from octavo.tasks.embed import COSINE
from octavo.types import FloatArray

LEXICAL, VECTORS, NUMBERS = "lexical", "vectors.faiss", "vectors.numbers"


@dataclass(frozen=True, slots=True)
class Index:
    """One version of an index. Thread-safe; what is published later does not reach it.

    Attributes:
        folder: of the version.
        manifest: what it holds.
        lexical: BM25, and the documents.
        vectors: of the same documents.
        tuned: how much a ranker has to say; None where that was not tuned.
    """

    folder: Path
    manifest: IndexManifest
    lexical: Lexical
    vectors: Vectors
    tuned: Tuned | None = None

    def __len__(self) -> int:
        return self.manifest.documents

    def words(self, query: str, k: int) -> Hits:
        """Return the `k` documents of the highest BM25 score."""
        return self.lexical.search(query, k)

    def nearest(self, queries: FloatArray, k: int) -> list[Hits]:
        """Return the `k` documents nearest to each query, of vectors (queries, width) as the model gives them.

        Raises:
            InputError: vectors of another width.
        """
        if queries.shape[1] != self.vectors.width:
            raise InputError(f"The queries have {queries.shape[1]} numbers, and documents {self.vectors.width}.")
        is_cosine = self.manifest.vectors_by.similarity == COSINE
        return self.vectors.nearest(unit_vectors(queries) if is_cosine else queries, k)

    def documents(self, numbers: Sequence[int]) -> dict[int, Document]:
        """Return documents by their numbers."""
        return self.lexical.documents(numbers)


def open_index(path: str | Path, progress: Progress | None = None) -> Index:
    """Open an index (its current version), or a version of it, and verify every file.

    Raises:
        ReleaseError: there is no index, or it has a missing, cut, altered or extra file, or what was tuned is damaged.
    """
    folder = index_folder(Path(path))
    manifest = read_index_manifest(folder)
    check_files(folder, manifest, progress or Silent())
    lexical = Lexical(folder / LEXICAL)
    vectors = Vectors.read(folder / VECTORS, folder / NUMBERS)
    if not len(lexical) == len(vectors) == manifest.documents:
        raise ReleaseError(
            f"{folder}: {len(lexical)} documents, {len(vectors)} vectors, and {manifest.documents} should be there. "
            f"{REPAIR}"
        )
    return Index(folder, manifest, lexical, vectors, read_tuned(folder.parent))


def index_folder(path: Path) -> Path:
    """Return the version folder that `path` stands for: itself, or the current version.

    Raises:
        ReleaseError: it is neither; the message says what there is.
    """
    link = path / CURRENT
    if link.is_symlink():
        target = str(link.readlink())
        if not VERSION.fullmatch(target) or not (path / target).is_dir():
            raise ReleaseError(f"{link}: points to {target!r}, which is no version of this index. {REPAIR}")
        return path / target
    if (path / FILE_NAME).exists() or (path / LEXICAL).is_dir():
        return path
    if not path.is_dir():
        raise ReleaseError(
            f"{path}: there is no such index. Make one: octavo search index STORE --corpus … --out {path}"
        )
    there = ", ".join(version_folders(path)) or "none"
    raise ReleaseError(f"{path}: no version of the index is current (there are: {there}). Index the corpus again.")
