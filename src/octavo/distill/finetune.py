"""Fine-tuning a classifier on labelled rows: for those who do not bring a teacher of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from octavo.distill.objectives import cross_entropy
from octavo.distill.trainer import Plan, Trained, train
from octavo.encoder.folder import ModelFolder, classifier_from_encoder, save_classifier
from octavo.encoder.running import run_all
from octavo.errors import InputError
from octavo.progress import Progress
from octavo.tasks.classify import Classify
from octavo.text.tokenizer import Tokenizer
from octavo.types import Rows


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What fine-tuning made: the folder, and the score on dev before and after each epoch."""

    folder: Path
    training: Trained


def finetune(
    encoder: ModelFolder,
    train_rows: Rows,
    dev_rows: Rows,
    out: Path,
    plan: Plan,
    max_length: int,
    progress: Progress,
) -> FineTuning:
    """Train encoder and a new head on `train_rows` and write a Hugging Face folder to `out`.

    Labels are those of the training rows, in alphabetical order. An interrupted run resumes from a checkpoint
    beside `out`.

    Raises:
        InputError: a dev label that training rows do not have, or `out` exists and is no model folder.
    """
    if out.exists() and not (out / "config.json").exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not a model folder. Choose another --out.")
    task = Classify(tuple(sorted({row.label for row in train_rows.rows if row.label is not None})))
    tokenizer = Tokenizer.from_folder(encoder.path, max_length=min(max_length, encoder.config.max_length))
    offset = encoder.config.position_offset
    model = classifier_from_encoder(encoder, len(task.labels), plan.seed)
    truth = task.truth(dev_rows.rows)
    dev = tokenizer.encode(dev_rows.texts)

    def accuracy(candidate: nn.Module) -> float:
        return float(task.score(run_all(candidate, dev, offset), truth).mean())

    training = train(
        model,
        tokenizer.encode(train_rows.texts),
        offset,
        cross_entropy(task.truth(train_rows.rows)),
        accuracy,
        plan,
        label="fine-tune",
        progress=progress,
        describe="accuracy on dev {:.1%}".format,
        checkpoint=out.with_name(f".{out.name}.checkpoint.safetensors"),
        fingerprint=f"{plan} {train_rows.sha256} {dev_rows.sha256} {encoder.path.resolve()} {max_length}",
    )
    save_classifier(model, task.labels, encoder, out)
    return FineTuning(out, training)
