"""`compress()`: from a teacher and rows to certified releases in a store."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from octavo.certify.certificate import Certificate, Hashes
from octavo.certify.certifying import Identity, Timing, certificate_from
from octavo.certify.latency import LatencySummary, measure
from octavo.engines.hardware import this_hardware
from octavo.engines.open import Backend, default_backend
from octavo.engines.openvino import computes_bf16
from octavo.errors import InputError, Interrupted
from octavo.ladder.baselines import torch_fp32
from octavo.ladder.builds import CANONICAL, Build, build, traffic_shapes
from octavo.ladder.evidence import evidence_from_engine
from octavo.ladder.material import Material, gather
from octavo.ladder.publishing import Certified, Published, publish
from octavo.ladder.rungs import Candidate, Kind, calibrated, closest, control, half_precision, reference, trained
from octavo.progress import Progress, Silent
from octavo.recipe import Recipe
from octavo.store.publish import new_version
from octavo.types import Scheme, Verdict

# The fewest rounds are three whatever the budget; this many are the most.
_TIMING_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Compression:
    """What a compression made.

    Attributes:
        certificates: one per rung, in the order of the ladder.
        chosen: the rung that `current` points to now; None where neither an INT8 rung nor half precision passed, and
            `current` was left alone.
        releases: rung → release folder; the FP32 reference, the best calibrated and the trained rung.
        warnings: what a user should know about the data.
    """

    certificates: list[Certificate]
    chosen: str | None
    releases: dict[str, Path]
    warnings: list[str]

    @property
    def release(self) -> Path | None:
        """Folder of the chosen release."""
        return self.releases[self.chosen] if self.chosen else None

    @property
    def report(self) -> Path:
        """The report, as the last release holds it."""
        return list(self.releases.values())[-1] / "report.html"


def compress(
    recipe: Recipe, *, progress: Progress | None = None, backend: Backend | None = None, reproduce: str = ""
) -> Compression:
    """Climb the ladder and publish what was certified.

    The candidate is chosen on the development rows; the test rows only say whether it passes. An interrupted run
    leaves no release and resumes its training when it is called again.

    Args:
        recipe: what to make, out of what.
        progress: where to report; silent by default.
        backend: the engine that will serve, and so the one that is certified; None for the native one where this
            installation has it, else OpenVINO.
        reproduce: the command that was typed, for the report.

    Raises:
        OctavoError: one of its kinds, with what to do.
    """
    progress = progress or Silent()
    backend = backend or default_backend()
    schemes = _schemes(recipe, backend)
    work = recipe.store / ".work" / recipe.model_name
    try:
        with new_version(recipe.store, recipe.model_name):
            pass  # a name or a store that cannot be used is refused now and not after the training
        material = gather(recipe, work, progress)
        for warning in material.warnings:
            progress.say(f"note: {warning}")
        made = _climb(material, schemes, work, progress, backend, reproduce)
        shutil.rmtree(work, ignore_errors=True)  # what an interrupted run would have gone on from
        return made
    except KeyboardInterrupt:
        raise Interrupted("Stopped. No release was written; run the same command again to go on.") from None


def _climb(
    material: Material, schemes: Sequence[Scheme], work: Path, progress: Progress, backend: Backend, reproduce: str
) -> Compression:
    recipe = material.recipe
    candidates = [reference(material), *_half(material, backend, progress), *calibrated(material, schemes, progress)]
    warm_starts = [closest([one for one in candidates if one.scheme is scheme]) for scheme in schemes]
    best_ptq = [one.rung for one in warm_starts]
    for start in warm_starts:
        if start.details["observer"]:
            progress.say(f"observer chosen on dev: {start.details['observer']}")
    if recipe.distill.epochs:
        starts = [start for start in warm_starts if start.scheme in recipe.distill.schemes]
        candidates += [trained(material, start, work, progress) for start in starts]
        if recipe.distill.control:
            candidates.append(control(material, work, progress))
    shapes = traffic_shapes(material)
    builds = []
    with progress.step("export and build engines", len(candidates)) as bar:
        for candidate in candidates:
            bar.advance(0, candidate.rung)
            builds.append(build(material, candidate, _serving(candidate.precision, backend), shapes))
            bar.advance()
    # The FP32 rung is the baseline in OpenVINO, unless it runs on another engine.
    is_baseline = builds[0].backend is Backend.OPENVINO
    baseline = None if is_baseline else build(material, candidates[0], Backend.OPENVINO, shapes)
    rungs = _certify(material, builds, baseline, best_ptq, progress)
    ranking = [*_int8_by_dev(candidates, best_ptq), *(one.rung for one in candidates if one.kind is Kind.HALF)]
    chosen = next((rung for rung in ranking if _passed(rungs, rung)), None)
    published = _publish(material, rungs, ranking, chosen, shapes, reproduce)
    for one in (*builds, *([baseline] if baseline else [])):
        one.engine.close()
    return Compression(published.certificates, chosen, dict(published.folders), material.warnings)


def _schemes(recipe: Recipe, backend: Backend) -> list[Scheme]:
    """Return the schemes that are tried: scales per token are fast in the native engine alone.

    Raises:
        InputError: none is left.
    """
    schemes = [one for one in recipe.quantize.schemes if one is Scheme.PER_TENSOR or backend is Backend.NATIVE]
    if not schemes:
        raise InputError(f"Scales per token need the native engine, and {backend} was asked for. Add 'per-tensor'.")
    return schemes


def _half(material: Material, backend: Backend, progress: Progress) -> list[Candidate]:
    """Return the rung in bfloat16 where the recipe wants it and this CPU computes it, in OpenVINO."""
    if not material.recipe.half_precision:
        return []
    if _serving("bf16", backend) is Backend.OPENVINO and computes_bf16():
        return [half_precision(material)]
    progress.say("no rung in half precision: it takes OpenVINO, and a CPU that computes bfloat16")
    return []


def _serving(precision: str, backend: Backend) -> Backend:
    """Return the engine that serves a precision: the native one knows INT8 alone, and leaves the rest to OpenVINO."""
    return Backend.OPENVINO if backend is Backend.NATIVE and precision != "int8" else backend


def _int8_by_dev(candidates: Sequence[Candidate], best_ptq: Sequence[str]) -> list[str]:
    """Return the INT8 rungs that may go live, the closest to the teacher on dev first.

    Dev decides, not speed, although scales per token cost some on most machines (docs/results.md); the other observers
    were left behind on dev already.
    """
    contenders = [one for one in candidates if one.rung in best_ptq or one.kind is Kind.QAT]
    return [one.rung for one in sorted(contenders, key=lambda one: one.dev.distance)]


def _passed(rungs: Sequence[Certified], rung: str) -> bool:
    return any(one.rung == rung and one.certificate.verdict is Verdict.PASS for one in rungs)


def _certify(
    material: Material, builds: Sequence[Build], baseline: Build | None, best_ptq: Sequence[str], progress: Progress
) -> list[Certified]:
    recipe = material.recipe
    teacher = torch_fp32(material.teacher.folder.path, material.task.head, material.teacher.tokenizer.max_length)
    runners: dict[str, Any] = {"torch_fp32": teacher}
    runners |= {one.candidate.rung: one.answer for one in builds}
    if baseline:
        runners["openvino_fp32"] = baseline.answer
    timings = measure(
        runners,
        material.test.traffic,
        rounds=_TIMING_ROUNDS,
        budget_s=recipe.certify.timing_s,
        seed=recipe.seed,
        progress=progress,
    )
    hardware, created = this_hardware(), datetime.now(UTC).isoformat(timespec="seconds")
    certified = []
    for one in builds:
        evidence = evidence_from_engine(material.test, one.engine.run, one.candidate.rung, progress)
        identity = Identity(
            model=recipe.model_name,
            version="",
            task=material.task.name,
            rung=one.candidate.rung,
            metric=evidence.engine.measures[0].name,
            engine_id=one.engine.engine_id,
            model_bytes=len(one.graphs[one.loaded]),
            sha256=Hashes(one.sha256(CANONICAL), material.test.split.sha256, one.sha256(one.loaded)),
            seeds={"recipe": recipe.seed},
            hardware=hardware,
            created=created,
            selection=_selection(material, one, best_ptq),
        )
        timing = Timing(timings[one.candidate.rung], _baselines(timings, builds[0].candidate.rung))
        certified.append(
            Certified(one, certificate_from(evidence, identity, timing, recipe.certify.margin, seed=recipe.seed))
        )
    return certified


def _baselines(timings: dict[str, LatencySummary], reference: str) -> dict[str, LatencySummary]:
    """The teacher's own weights, packed, in OpenVINO: the strongest FP32 baseline there is."""
    return {"torch_fp32": timings["torch_fp32"], "openvino_fp32": timings.get("openvino_fp32", timings[reference])}


def _selection(material: Material, one: Build, best_ptq: Sequence[str]) -> dict[str, Any]:
    candidate = one.candidate
    return {
        "kind": candidate.kind,
        "dev_rows": len(material.dev.split.units.texts),
        "dev": asdict(candidate.dev),
        "best_observer_on_dev": candidate.rung in best_ptq,
        "margin_reason": material.recipe.certify.reason,
        **candidate.details,
    }


def _publish(
    material: Material,
    rungs: Sequence[Certified],
    ranking: Sequence[str],
    chosen: str | None,
    shapes: Sequence[Any],
    reproduce: str,
) -> Published:
    notes = list(material.warnings)
    if material.recipe.certify.reason:
        notes.append(material.recipe.certify.reason)
    # The ladder's order, so that version numbers tell the same story every time.
    releases = [one.rung for one in rungs if one is rungs[0] or one.rung in ranking]
    return publish(
        material,
        rungs,
        releases,
        chosen,
        shapes=shapes,
        reproduce=reproduce or "octavo compress recipe.toml",
        notes=notes,
    )
