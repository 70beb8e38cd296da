"""Certifying a release again: on this machine, on other rows, or on another engine. Needs no torch.

The teacher is the FP32 reference release of the same store, or another release, or a model folder (which needs torch).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from octavo.certify.certificate import Certificate, Hashes, read_certificate
from octavo.certify.certifying import Identity, Timing, certificate_from
from octavo.certify.latency import Runner, measure
from octavo.data.characters import shown
from octavo.engines.guard import Layout
from octavo.engines.hardware import this_hardware
from octavo.engines.open import ROLE, Backend
from octavo.errors import InputError, ReleaseError
from octavo.ladder.evidence import BATCH_INPUTS, HeldOut, evidence_from_engine, outputs_in_batches
from octavo.progress import Progress, Silent
from octavo.store.model import Model, load
from octavo.store.release import Release, open_release
from octavo.tasks.base import Purpose, Split, Task
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer
from octavo.types import FloatArray, Outputs

_TIMING_ROUNDS = 60


def recertify(
    release: Path,
    test: Path,
    *,
    teacher: Path | None = None,
    backend: Backend | None = None,
    threads: int | None = None,
    layout: Layout = Layout.BUCKETED,
    margin: float | None = None,
    timing_s: float = 20.0,
    progress: Progress | None = None,
) -> Certificate:
    """Decide again whether a release is as good as its teacher, here and on these rows. Writes nothing.

    Args:
        release: the release.
        test: held-out rows of the release's task.
        teacher: a release or a Hugging Face folder; None for the FP32 reference that the release names.
        backend: engine to certify; None for the one that serves here (`octavo.load`).
        threads: CPU threads of the engine and of its FP32 baseline; None for all.
        layout: how batches are padded, where a backend is named.
        margin: as a fraction; None for that of the release's certificate.
        timing_s: bound on the latency measurement, in seconds.
        progress: where to report.

    Raises:
        InputError: rows that cannot be used, or a teacher of another task or other labels.
        ReleaseError: the release or its teacher is missing or altered.
    """
    progress = progress or Silent()
    opened = open_release(release, progress)
    old = read_certificate(opened.read("certificate.json"), f"{opened.folder}/certificate.json")
    with (
        load(
            opened.folder,
            backend=backend,
            threads=threads,
            layout=layout,
            allow_uncertified=True,
            check_answers=False,
        ) as model,
        ExitStack() as opened_teacher,
    ):
        split = model.task.read(test, Purpose.TEST)
        named = _teacher(opened, model, teacher, threads, opened_teacher)
        held_out = HeldOut(split, model.tokenizer.encode(split.inputs), _asked(named, split, progress))
        timings = measure(
            {"engine": model.outputs, named.baseline: named.timed},
            held_out.traffic,
            rounds=_TIMING_ROUNDS,
            budget_s=timing_s,
            seed=old.seeds["bootstrap"],
            progress=progress,
        )
        evidence = evidence_from_engine(held_out, model.engine.run, old.rung, progress)
        identity = _identity(opened, model, old, split.sha256)
    timing = Timing(timings["engine"], {named.baseline: timings[named.baseline]})
    return certificate_from(
        evidence, identity, timing, old.margin if margin is None else margin, seed=old.seeds["bootstrap"]
    )


@dataclass(frozen=True, slots=True)
class _Teacher:
    """The teacher: how it answers, and what is timed as a baseline."""

    tokenizer: Tokenizer
    run: Callable[[TokenBatch], FloatArray]
    baseline: str
    timed: Runner


def _teacher(release: Release, model: Model, given: Path | None, threads: int | None, stack: ExitStack) -> _Teacher:
    """Open the teacher until `stack` ends, and check that it does the release's task."""
    folder = given or reference_folder(release)
    if (folder / "manifest.json").is_file() or (folder / "current").exists():
        # In OpenVINO whatever the release was certified on: that is what the baseline is named.
        reference = stack.enter_context(load(folder, backend=Backend.OPENVINO, threads=threads, allow_uncertified=True))
        if reference.config.precision != "fp32":
            raise InputError(f"{folder} is an {reference.config.precision} release; a teacher must be fp32.")
        _check_same_task(folder, reference.task, model)
        return _Teacher(reference.tokenizer, reference.engine.run, "openvino_fp32", reference.outputs)
    return _teacher_from_folder(folder, model)


def _teacher_from_folder(folder: Path, model: Model) -> _Teacher:
    """Read a model folder; only this needs torch."""
    from octavo.encoder.folder import model_from_folder, read_folder
    from octavo.engines.torch import TorchEngine
    from octavo.ladder.baselines import torch_fp32
    from octavo.tasks.registry import task_from_facts

    read = read_folder(folder)
    task = task_from_facts(read.facts, model.task.name)
    _check_same_task(folder, task, model)
    length = model.config.max_length
    engine = TorchEngine(model_from_folder(read, task.head), read.config.positions, "fp32")
    tokenizer = Tokenizer.from_folder(read.path, max_length=length, reads_last=task.head.reads_last)
    return _Teacher(tokenizer, engine.run, "torch_fp32", torch_fp32(read.path, task.head, length))


def _check_same_task(folder: Path, task: Task, model: Model) -> None:
    if task != model.task:
        raise InputError(
            f"{folder} does not do what the release does: it is for {_told(task)}, and the release for "
            f"{_told(model.task)}. Give the model that the release was made from."
        )


def _told(task: Task) -> str:
    """Return a task and its settings for people."""
    settings = (
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in task.settings().items()
    )
    return f"{task.name} ({shown('; '.join(settings))})"


def _asked(teacher: _Teacher, split: Split, progress: Progress) -> Outputs:
    batch = teacher.tokenizer.encode(split.inputs)
    with progress.step("teacher answers", len(batch)) as bar:
        return outputs_in_batches(teacher.run, batch, BATCH_INPUTS, bar)


def reference_folder(release: Release) -> Path:
    """Return the folder of the FP32 reference that a release names; its own, if it is one.

    Raises:
        ReleaseError: it names none, or it is not there.
    """
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


def _identity(release: Release, model: Model, old: Certificate, data_sha256: str) -> Identity:
    variants, files = release.manifest.variants, release.manifest.files
    loaded = variants[ROLE[model.backend] if ROLE[model.backend] in variants else "canonical"]
    return Identity(
        model=release.model,
        version=release.version,
        task=old.task,
        rung=old.rung,
        metric=old.metric,
        engine_id=model.engine.engine_id,
        model_bytes=files[loaded].size_bytes,
        sha256=Hashes(files[variants["canonical"]].sha256, data_sha256, files[loaded].sha256),
        seeds=old.seeds,
        hardware=this_hardware(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        selection=old.selection,
    )
