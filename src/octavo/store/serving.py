"""Which engine serves a release on this machine: the plan's where it is certified, else the one that was certified.

The order of preference, and the certificate that covers each. Opens no engine: whether one can run is seen by trying.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from octavo.certify.certificate import Certificate, certificate_json, read_certificate
from octavo.engines.guard import Layout
from octavo.engines.open import Backend
from octavo.engines.plan import Plan, keep, kept_file, read_plan
from octavo.errors import EngineError, OctavoError, ReleaseError
from octavo.store.contents import ReleaseConfig
from octavo.store.release import Release
from octavo.types import Verdict


@dataclass(frozen=True, slots=True)
class Serving:
    """One way to serve a release.

    Attributes:
        backend: of the engine.
        certificate: that covers it; None where none does.
        layout: how it pads batches.
        threads: CPU threads; None for all.
    """

    backend: Backend
    certificate: Certificate | None
    layout: Layout = Layout.BUCKETED
    threads: int | None = None


def ways_to_serve(
    release: Release, config: ReleaseConfig, certificate: Certificate, threads: int | None
) -> tuple[list[Serving], list[str]]:
    """Return the ways to serve a release, the best first, and what a user should know.

    Where the native engine was certified, OpenVINO stands in for it: last, and covered by nothing.
    """
    certified = Backend(config.backend)
    ways, notes = [], []
    try:
        plan = read_plan(release.sha256)
    except EngineError as error:
        plan = None
        notes.append(f"{error} It is ignored; measure again: octavo build {release.folder}")
    if plan is not None and (planned := _planned(release, config, certificate, plan)) is not None:
        if threads in (None, plan.threads):
            ways.append(planned)
        elif (planned.backend, planned.layout) != (certified, Layout.BUCKETED):
            notes.append(
                f"The engine was chosen for {_threads(plan.threads)}, and {_threads(threads)} will run: the certified "
                f"engine serves. Measure again: octavo build {release.folder} --threads {threads}"
            )
    ways.append(Serving(certified, certificate, threads=threads))
    if certified is Backend.NATIVE:
        ways.append(Serving(Backend.OPENVINO, None, threads=threads))
    return ways, notes


def covering_certificate(
    release: Release, config: ReleaseConfig, certificate: Certificate, backend: Backend
) -> Certificate | None:
    """Return the certificate that covers a backend: the release's own, or one made and kept on this machine."""
    return certificate if backend == config.backend else kept_certificate(release, backend)


def keep_certificate(release: Release, backend: Backend, certificate: Certificate) -> Path:
    """Keep a certificate for another engine than the release's, beside the plan; a release itself never changes.

    Raises:
        EngineError: the cache cannot be written.
    """
    return keep(release.sha256, f"{backend}.certificate", certificate_json(certificate))


def kept_certificate(release: Release, backend: Backend) -> Certificate | None:
    """Return the certificate that was kept for a backend, if it is a `pass` for these very files."""
    try:
        file = kept_file(release.sha256, f"{backend}.certificate")
        found = read_certificate(file.read_bytes(), str(file))
    except (OSError, OctavoError):
        return None
    is_for_it = found.engine_id.startswith(f"{backend}-") and is_for_these_files(found, release)
    return found if is_for_it and found.verdict is Verdict.PASS else None


def is_for_these_files(certificate: Certificate, release: Release) -> bool:
    """Return whether a certificate was made for the weights and the graph of a release."""
    certified = {certificate.sha256.weights, certificate.sha256.engine}
    return certified <= {entry.sha256 for entry in release.manifest.files.values()}


def check_certified(release: Release, config: ReleaseConfig, certificate: Certificate, backend: Backend) -> None:
    """Refuse what was not proved.

    Raises:
        ReleaseError: the verdict is no `pass`, the certificate is for other files, or for another engine.
    """
    at = f"{release.folder}"
    if certificate.verdict is not Verdict.PASS:
        raise ReleaseError(
            f"{at}: its certificate says '{certificate.verdict}': {certificate.reason} "
            "Use another version, or allow uncertified releases on purpose."
        )
    if not is_for_these_files(certificate, release):
        raise ReleaseError(f"{at}: its certificate was made for other weights. Publish the release again.")
    if covering_certificate(release, config, certificate, backend) is None:
        raise ReleaseError(
            f"{at}: it was certified on {config.backend}, and {backend} was asked for. "
            "Certify it there (octavo certify --engine), or allow uncertified releases on purpose."
        )


def _planned(release: Release, config: ReleaseConfig, certificate: Certificate, plan: Plan) -> Serving | None:
    """Return the plan's engine, if it is covered. Layouts need no certificate of their own: see `Layout`."""
    covering = covering_certificate(release, config, certificate, plan.backend)
    if covering is None:
        return None
    return Serving(plan.backend, covering, plan.layout or Layout.BUCKETED, plan.threads)


def _threads(count: int | None) -> str:
    if count is None:
        return "all threads"
    return "1 thread" if count == 1 else f"{count} threads"
