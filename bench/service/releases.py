"""A store to swap among: two certified INT8 releases of one model, and some that must never serve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from octavo.store.publish import new_version
from octavo.store.release import Release, open_release

MODEL = "tool-intent"


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of `MODEL`: those that may serve, and by name those that must be refused."""

    good: tuple[str, ...]
    bad: dict[str, str]


def sample_store(work: Path) -> Path:
    """Return a store with two INT8 releases of a sample model, made on the first call (minutes) and kept in `work`."""
    from octavo.data.sample import sample_encoder, write_sample
    from octavo.distill.finetune import finetune
    from octavo.distill.trainer import Plan
    from octavo.encoder.folder import read_folder
    from octavo.ladder.compress import compress
    from octavo.progress import Silent
    from octavo.recipe import Certification, DataFiles, Distillation, Quantization, Recipe
    from octavo.tasks.registry import task_named
    from octavo.types import Observer

    store, data, teacher = work / "store", work / "data", work / "teacher"
    if (store / MODEL / "current").exists():
        return store
    write_sample(data)
    train, dev, test = (data / f"{name}.jsonl" for name in ("train", "dev", "test"))
    if not (teacher / "config.json").exists():
        plan = Plan(epochs=1, learning_rate=7e-4, batch_size=32, seed=0)
        finetune(read_folder(sample_encoder()), task_named("classify"), train, dev, teacher, plan, 64, Silent())
    for observer in (Observer.MAX, Observer.MSE):
        compress(
            Recipe(
                teacher=teacher,
                store=store,
                model=MODEL,
                task="classify",
                max_length=64,
                data=DataFiles(train=train, dev=dev, test=test),
                quantize=Quantization(observers=(observer,), calibration_rows=256),
                distill=Distillation(epochs=0, control=False),
                certify=Certification(margin=0.02, reason="a bench", timing_s=1.0),
            )
        )
    return store


def with_bad_versions(store: Path, work: Path) -> tuple[Path, Versions]:
    """Return a copy of a store's `MODEL`, with releases beside the good ones that must be refused."""
    copy = work / "swapping"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store / MODEL, copy / MODEL, symlinks=True)
    good = tuple(
        version
        for version in sorted((child.name for child in (copy / MODEL).iterdir() if child.name.isdigit()), key=int)
        if json.loads((copy / MODEL / version / "config.json").read_text())["precision"] == "int8"
    )
    source = open_release(copy / MODEL / good[0])
    other = open_release(copy / MODEL / good[1])
    failed = json.dumps(json.loads(source.read("certificate.json")) | {"verdict": "fail"}).encode()
    bad = {
        "failed": _published(copy, source, lambda name, content: failed if name == "certificate.json" else content),
        "another's certificate": _published(
            copy, source, lambda name, content: other.read(name) if name == "certificate.json" else content
        ),
        "corrupt": _published(copy, source, lambda _, content: content),
    }
    model = copy / MODEL / bad["corrupt"] / "model.onnx"
    flipped = bytearray(model.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    model.chmod(0o644)
    model.write_bytes(flipped)
    return copy, Versions(good, bad)


def _published(store: Path, source: Release, change: Callable[[str, bytes], bytes]) -> str:
    """Publish a release again with some of its files changed, and return its version."""
    manifest = source.manifest
    with new_version(store, MODEL) as draft:
        for name in manifest.files:
            draft.write(name, change(name, source.read(name)))
        draft.commit(task=manifest.task, rung=manifest.rung, variants=manifest.variants, teacher=manifest.teacher)
        return draft.version
