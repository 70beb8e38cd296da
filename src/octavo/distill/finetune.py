"""Fine-tuning an encoder for a task on labelled rows: for those who do not bring a teacher of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from octavo.distill.objectives import labelled_objective
from octavo.distill.trainer import Plan, Trained, TrainingData, train
from octavo.encoder.folder import ModelFolder, check_can_be_written, model_from_encoder, save_model
from octavo.encoder.running import run_all
from octavo.errors import InputError
from octavo.progress import Progress
from octavo.tasks.base import Purpose, Split, Task
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What fine-tuning made: the folder, and the score on dev before and after each epoch."""

    folder: Path
    task: Task
    training: Trained


def finetune(
    encoder: ModelFolder,
    kind: type[Task],
    train_rows: Path,
    dev_rows: Path,
    out: Path,
    plan: Plan,
    max_length: int,
    progress: Progress,
) -> FineTuning:
    """Train encoder and head on rows of a task and write a Hugging Face folder to `out`.

    What a folder says about the task already (pooling, prompts, an activation) is kept; labels are those of the
    training rows. An interrupted run resumes from a checkpoint beside `out`.

    Raises:
        InputError: rows that do not fit the task, or `out` exists and is no model folder, or cannot be written.
    """
    if out.exists() and not (out / "config.json").exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not a model folder. Choose another --out.")
    if out.resolve() == encoder.path.resolve():
        raise InputError(f"{out} is the encoder's own folder, which would be lost. Choose another --out.")
    task = kind.for_training(encoder.facts, train_rows)
    rows, dev = task.read(train_rows, Purpose.TRAIN), task.read(dev_rows, Purpose.DEV)
    length = min(max_length, encoder.config.max_length)
    tokenizer = Tokenizer.from_folder(encoder.path, length, reads_last=task.head.reads_last)
    model = model_from_encoder(encoder, task.head, plan.seed)
    data = TrainingData(tokenizer.encode(rows.inputs), rows.groups, encoder.config.positions)
    dev_tokens = tokenizer.encode(dev.inputs)
    check_can_be_written(out)
    training = train(
        model,
        data,
        labelled_objective(rows, task),
        lambda candidate: _dev_score(candidate, dev, dev_tokens, data),
        plan,
        label="fine-tune",
        progress=progress,
        describe="{:.1%} on dev".format,
        checkpoint=out.with_name(f".{out.name}.checkpoint.safetensors"),
        fingerprint=f"{plan} {task} {rows.sha256} {dev.sha256} {encoder.path.resolve()} {max_length}",
    )
    save_model(model, task, encoder, out)
    return FineTuning(out, task, training)


def _dev_score(model: nn.Module, dev: Split, tokens: TokenBatch, data: TrainingData) -> float:
    outputs = run_all(model, tokens, data.positions)
    answers = dev.answers(outputs, outputs)
    # The deciding metric, and those that gate beside it, such as the intent of a tagger.
    return float(np.mean([m.value for i, m in enumerate(answers.measures) if i == 0 or m.gates]))
