"""Certifying a release again: on this machine, on other rows, or on another engine. Needs no torch.

The teacher is the FP32 reference release of the same store, or another release, or a model folder (which needs torch).
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from octavo.certify.certificate import (
    Certificate,
    Hashes,
    Identity,
    Timing,
    certificate_from,
    read_certificate,
)
from octavo.certify.latency import LatencySummary, Runner, measure
from octavo.data.rows import read_rows
from octavo.engines.hardware import this_hardware
from octavo.engines.open import ROLE, Backend
from octavo.errors import InputError, ReleaseError
from octavo.ladder.evidence import BATCH_ROWS, HeldOut, evidence_from_engine
from octavo.progress import Progress, Silent
from octavo.store.model import Model, load
from octavo.store.release import Release, open_release
from octavo.tasks.classify import METRIC
from octavo.types import FloatArray

_TIMING_ROUNDS = 60


def recertify(
    release: Path,
    test: Path,
    *,
    teacher: Path | None = None,
    backend: Backend | None = None,
    margin: float | None = None,
    timing_s: float = 20.0,
    progress: Progress | None = None,
) -> Certificate:
    """Decide again whether a release is as good as its teacher, here and on these rows. Writes nothing.

    Args:
        release: the release.
        test: held-out rows with labels, JSON lines.
        teacher: a release or a Hugging Face folder; None for the FP32 reference that the release names.
        backend: engine to certify; None for the one that the release was certified on.
        margin: as a fraction; None for that of the release's certificate.
        timing_s: bound on the latency measurement, in seconds.
        progress: where to report.

    Raises:
        InputError: rows that cannot be used, or a teacher with other labels.
        ReleaseError: the release or its teacher is missing or altered.
    """
    progress = progress or Silent()
    opened = open_release(release, progress)
    old = read_certificate(opened.read("certificate.json"), f"{opened.folder}/certificate.json")
    rows = read_rows(test)
    with (
        load(opened.folder, backend=backend, allow_uncertified=True, check_answers=False) as model,
        ExitStack() as opened_teacher,
    ):
        truth = model.task.truth(rows.rows)
        runners: dict[str, Runner] = {"engine": model.logits}
        answers = _teacher_answers(opened, model, teacher, rows.texts, runners, opened_teacher, progress)
        held_out = HeldOut(rows, model.tokenizer.encode(rows.texts), truth, answers)
        timings = measure(
            runners,
            rows.texts,
            rounds=_TIMING_ROUNDS,
            budget_s=timing_s,
            seed=old.seeds["bootstrap"],
            progress=progress,
        )
        evidence = evidence_from_engine(model.task, held_out, model.engine, old.rung, progress)
        identity = _identity(opened, model, old, rows.sha256, backend or Backend(model.config.backend))
    timing = Timing(timings["engine"], _baselines(timings))
    return certificate_from(
        evidence, identity, timing, old.margin if margin is None else margin, seed=old.seeds["bootstrap"]
    )


def _baselines(timings: dict[str, LatencySummary]) -> dict[str, LatencySummary]:
    return {name: summary for name, summary in timings.items() if name != "engine"}


def _teacher_answers(
    release: Release,
    model: Model,
    teacher: Path | None,
    texts: list[str],
    runners: dict[str, Runner],
    stack: ExitStack,
    progress: Progress,
) -> FloatArray:
    """Ask the teacher about every row, and leave it in `runners` as a baseline, open until `stack` ends."""
    folder = teacher or _reference_folder(release)
    if (folder / "manifest.json").is_file() or (folder / "current").exists():
        # In OpenVINO whatever the release was certified on: that is what the baseline is named.
        reference = stack.enter_context(load(folder, backend=Backend.OPENVINO, allow_uncertified=True))
        labels, name = list(reference.config.labels), "openvino_fp32"
        run: Runner = reference.logits
        if reference.config.precision != "fp32":
            raise InputError(f"{folder} is an {reference.config.precision} release; a teacher must be fp32.")
    else:
        from octavo.encoder.folder import read_folder
        from octavo.ladder.baselines import torch_fp32

        labels = list(read_folder(folder).labels)
        name, run = "torch_fp32", torch_fp32(folder, model.config.max_length)
    if labels != model.config.labels:
        raise InputError(f"{folder} has {len(labels)} labels that are not the release's {len(model.config.labels)}.")
    runners[name] = run
    return _in_batches(run, texts, progress)


def _in_batches(run: Runner, texts: list[str], progress: Progress) -> FloatArray:
    parts = []
    with progress.step("teacher answers", len(texts)) as bar:
        for start in range(0, len(texts), BATCH_ROWS):
            part = texts[start : start + BATCH_ROWS]
            parts.append(np.asarray(run(part), np.float32))
            bar.advance(len(part))
    return np.concatenate(parts)


def _reference_folder(release: Release) -> Path:
    version = release.manifest.teacher
    if version is None:
        if release.read_json("config.json").get("precision") == "fp32":
            return release.folder
        raise ReleaseError(f"{release.folder} names no teacher. Give one with --teacher.")
    folder = release.folder.parent / version
    if not folder.is_dir():
        raise ReleaseError(
            f"{release.folder} names version {version} as its FP32 reference, and {folder} is not there. "
            "Give a teacher with --teacher."
        )
    return folder


def _identity(release: Release, model: Model, old: Certificate, data_sha256: str, backend: Backend) -> Identity:
    variants, files = release.manifest.variants, release.manifest.files
    loaded = variants[ROLE[backend] if ROLE[backend] in variants else "canonical"]
    return Identity(
        model=release.model,
        version=release.version,
        task=old.task,
        rung=old.rung,
        metric=METRIC,
        engine_id=model.engine.engine_id,
        model_bytes=files[loaded].size_bytes,
        sha256=Hashes(files[variants["canonical"]].sha256, data_sha256, files[loaded].sha256),
        seeds=old.seeds,
        hardware=this_hardware(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        selection=old.selection,
    )
