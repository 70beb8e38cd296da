"""What there is to know of a search stack: its index, what serves, and the certificate of every version.

Reads manifests and certificates of the store, each verified and once: a release never changes. Knows no traffic; that
is for the admin API, which asks for its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NotRequired, TypedDict

import msgspec

from octavo import __version__
from octavo.certify.certificate import Certificate, read_certificate
from octavo.certify.latency import Latency
from octavo.certify.wording import metric_name
from octavo.errors import OctavoError, ReleaseError
from octavo.search.answers import Stack
from octavo.search.index import Index
from octavo.search.pipeline import CLASSIFY, EMBED, RANK, TAG
from octavo.serve.refusals import UnknownModel
from octavo.serve.service import ModelInfo, Service
from octavo.store.names import model_folder, version_folders
from octavo.store.release import Release, read_manifest
from octavo.types import Interval

REPORT = "report.html"

_STAGES = {"classify": CLASSIFY, "tag": TAG, "embed": EMBED, "rank": RANK}
_MOST_VERSIONS = 50  # of a model, the newest


class IndexFacts(TypedDict):
    """The index that is searched, and the release that made its vectors."""

    version: str
    documents: int
    kind: str
    created: str
    vectors_by: str
    vectors_by_version: str
    size_bytes: int


class CertificateFacts(TypedDict):
    """What was proved of an engine, and how fast it was: the fields of a certificate that fit on a page."""

    verdict: str
    reason: str
    metric: str
    margin: float
    rows: int
    unit: str
    item: str
    teacher: Interval
    engine: Interval
    difference: Interval
    agreement: float
    agreement_means: str
    engine_id: str
    cpu: str
    logical_cores: int
    latency_ms: Latency
    baselines: dict[str, Latency]
    speedup: dict[str, float]
    compute_saved: float | None
    created: str


class VersionFacts(TypedDict):
    """A version in the store. `note` says what is wrong where it cannot be read."""

    version: str
    rung: str
    reference: str | None
    is_loaded: bool
    has_report: bool
    certificate: CertificateFacts | None
    note: NotRequired[str]


class ModelFacts(TypedDict):
    """A model that serves, what it does in a search (empty for nothing), and its versions, oldest first."""

    model: str
    task: str
    stage: str
    version: str
    precision: str
    engine: str
    since: str
    certificate: CertificateFacts
    versions: list[VersionFacts]


class SearchInfo(TypedDict):
    """The stack: what is searched, and with what; `ranked_documents` is how many the ranker reads a search."""

    octavo: str
    ready: bool
    index: IndexFacts
    models: list[ModelFacts]
    ranked_documents: int
    examples: list[str]
    admin_port: int | None
    has_reports: bool


def search_info(
    index: Index,
    service: Service,
    stack: Stack,
    store: Path,
    *,
    ranked_documents: int,
    examples: Sequence[str],
    admin_port: int | None,
    has_reports: bool,
) -> SearchInfo:
    """Return what there is to know. Reads files: not for the event loop."""
    return {
        "octavo": __version__,
        "ready": service.ready,
        "index": _index_facts(index),
        "models": [_model_facts(info, service, stack, store) for info in service.models()],
        "ranked_documents": ranked_documents,
        "examples": list(examples),
        "admin_port": admin_port,
        "has_reports": has_reports,
    }


def certificate_facts(certificate: Certificate) -> CertificateFacts:
    """Return what of a certificate fits on a page."""
    speedups: dict[str, float | None] = msgspec.to_builtins(certificate.speedup)
    return {
        "verdict": str(certificate.verdict),
        "reason": certificate.reason,
        "metric": metric_name(certificate.metric),
        "margin": certificate.margin,
        "rows": certificate.rows,
        "unit": certificate.unit,
        "item": certificate.item,
        "teacher": certificate.teacher,
        "engine": certificate.engine,
        "difference": certificate.difference,
        "agreement": certificate.agreement,
        "agreement_means": certificate.agreement_means,
        "engine_id": certificate.engine_id,
        "cpu": certificate.hardware.cpu,
        "logical_cores": certificate.hardware.logical_cores,
        "latency_ms": certificate.latency_ms,
        "baselines": certificate.baselines,
        "speedup": {name: value for name, value in speedups.items() if value is not None},
        "compute_saved": certificate.compute_saved,
        "created": certificate.created,
    }


def report_of(store: Path, model: str, version: str) -> bytes:
    """Return the report of a release, hashed as it was read.

    Raises:
        UnknownModel: there is no such release, or it has no report that can be trusted.
    """
    try:
        folder = model_folder(store, model)
        if version not in version_folders(folder):
            raise ReleaseError(f"{model[:64]} has no version {version[:20]}.")
        return Release(folder / version, read_manifest(folder / version)).read(REPORT)
    except ReleaseError as error:
        raise UnknownModel(str(error)) from error


def _index_facts(index: Index) -> IndexFacts:
    manifest = index.manifest
    return {
        "version": manifest.version,
        "documents": manifest.documents,
        "kind": str(manifest.kind),
        "created": manifest.created,
        "vectors_by": manifest.vectors_by.model,
        "vectors_by_version": manifest.vectors_by.version,
        "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
    }


def _model_facts(info: ModelInfo, service: Service, stack: Stack, store: Path) -> ModelFacts:
    in_stack = info.model in (stack.embedder, stack.ranker, *stack.understanding)
    return {
        "model": info.model,
        "task": info.task.name,
        "stage": _STAGES.get(info.task.name, "") if in_stack else "",
        "version": info.version,
        "precision": info.precision,
        "engine": info.engine_id,
        "since": info.since,
        "certificate": certificate_facts(info.certificate),
        "versions": _versions(info.model, service, store),
    }


def _versions(model: str, service: Service, store: Path) -> list[VersionFacts]:
    try:
        loaded = service.versions(model)
        folder = model_folder(store, model)
        names = version_folders(folder)[-_MOST_VERSIONS:]
    except OctavoError:  # unloaded or removed just now
        return []
    return [{**_version_facts(folder / name, _written(folder / name)), "is_loaded": name in loaded} for name in names]


def _written(folder: Path) -> int:
    """Return what changes where a release is replaced by another one, which only a person can do."""
    try:
        return (folder / "manifest.json").stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=1024)
def _version_facts(folder: Path, written: int) -> VersionFacts:
    facts: VersionFacts = {
        "version": folder.name,
        "rung": "",
        "reference": None,
        "is_loaded": False,
        "has_report": False,
        "certificate": None,
    }
    try:
        manifest = read_manifest(folder)
        name = "certificate.json"
        certificate = read_certificate(Release(folder, manifest).read(name), f"{folder}/{name}")
    except ReleaseError as error:
        return {**facts, "note": str(error)}
    return {
        **facts,
        "rung": manifest.rung,
        "reference": manifest.teacher,
        "has_report": REPORT in manifest.files,
        "certificate": certificate_facts(certificate),
    }
