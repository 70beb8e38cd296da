"""Which release made an index's vectors of documents, and which releases may look for queries among them.

Vectors of two models have nothing to do with each other, and a wrong pair fails without a word: it finds nonsense. So
an index names the release that made its vectors. That very release may ask, and so may any release whose certificate
proves that its queries do as well among vectors of the FP32 reference that made these.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from octavo.certify.certificate import Certificate
from octavo.errors import ReleaseError
from octavo.store.manifest import Manifest
from octavo.store.release import read_manifest
from octavo.tasks.embed_split import NDCG_ACROSS
from octavo.types import Verdict


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The release that made the vectors.

    Attributes:
        model: its name.
        version: of the release: for people.
        release_sha256: of the release.
        engine_id: that ran it.
        precision: of its linear layers.
        similarity: `cosine` or `dot`, by which documents are ranked.
        dimensions: numbers per vector.
    """

    model: str
    version: str
    release_sha256: str
    engine_id: str
    precision: str
    similarity: str
    dimensions: int


def check_may_query(made_by: Lineage, folder: Path, certificate: Certificate | None) -> None:
    """Refuse a release whose queries were not proved to fit vectors that `made_by` made.

    Args:
        made_by: what made the vectors of the documents.
        folder: of the release that is to embed queries, in its store.
        certificate: that covers the engine which runs it; None where none does.

    Raises:
        ReleaseError: another model, or no proof; says what to do.
    """
    manifest = read_manifest(folder)
    if manifest.release_sha256 == made_by.release_sha256:
        return
    vectors = f"the vectors of the index were made by {made_by.model} {made_by.version} ({made_by.precision})"
    if manifest.model != made_by.model:
        raise ReleaseError(f"{folder}: {vectors}, another model. Search with that one, or index the corpus again.")
    if _reference_sha256(folder, manifest) != made_by.release_sha256:
        raise ReleaseError(
            f"{folder}: {vectors}, and that is not the FP32 reference that this release was certified against. "
            "Index the corpus again with this release's store."
        )
    if certificate is None or not _covers_documents_of_teacher(certificate):
        raise ReleaseError(
            f"{folder}: {vectors}, and no certificate says that queries of this release do as well among them "
            f"({NDCG_ACROSS}). Certify it (octavo certify), or index the corpus with it (--vectors-by current)."
        )


def _covers_documents_of_teacher(certificate: Certificate) -> bool:
    across = [measure for measure in certificate.measures if measure.name == NDCG_ACROSS]
    return certificate.verdict is Verdict.PASS and bool(across) and across[0].verdict is Verdict.PASS


def _reference_sha256(folder: Path, manifest: Manifest) -> str | None:
    """Return the hash of the FP32 reference beside a release; None where it is gone or was never there."""
    if manifest.teacher is None:
        return None
    try:
        return read_manifest(folder.parent / manifest.teacher).release_sha256
    except ReleaseError:
        return None
