"""Running a torch model over packed batches: layout to tensors, tensors to outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES, PackedLayout, Positions, layout_from_batch
from octavo.types import FloatArray, Outputs

# Inputs per call when a whole split is run: enough to fill the cores, few enough for long texts.
INPUTS_PER_CALL = 64


def tensors_from_layout(layout: PackedLayout) -> tuple[Tensor, ...]:
    """Return the layout's arrays as tensors, in the order of the models' arguments."""
    return tuple(torch.from_numpy(getattr(layout, name)) for name in INPUT_NAMES)


def run(model: nn.Module, batch: TokenBatch, positions: Positions) -> FloatArray:
    """Return a model's output for one batch, without padding, (reads, width)."""
    with torch.inference_mode():
        output: Tensor = model(*tensors_from_layout(layout_from_batch(batch, positions)))
        return output.float().numpy()


def run_all(
    model: nn.Module, batch: TokenBatch, positions: Positions, done: Callable[[int], None] = lambda _inputs: None
) -> Outputs:
    """Return a model's outputs for any number of inputs, in their order.

    Runs the longest ones first, so that those of one call are of like length. `done` is told how many inputs each call
    ran.
    """
    order = np.argsort(-batch.lengths, kind="stable")
    parts = []
    for start in range(0, max(1, len(order)), INPUTS_PER_CALL):  # an empty batch has a width, too
        chosen = order[start : start + INPUTS_PER_CALL]
        parts.append(run(model, batch.select(chosen), positions))
        done(len(chosen))
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    counts = np.diff(batch.read_offsets)[order]
    in_order = Outputs(np.concatenate(parts), np.concatenate([[0], np.cumsum(counts)]))
    return in_order.select(back)


def run_to_file(
    model: nn.Module, batch: TokenBatch, positions: Positions, file: Path, done: Callable[[int], None]
) -> Outputs:
    """Return a model's outputs, kept in `file` and not in memory; an interrupted run goes on where it stopped.

    The file's name must tell model and batch apart from others: what is there is taken for theirs. Inputs are run in
    chunks, in their order.
    """
    offsets = batch.read_offsets
    width = int(model.width)  # type: ignore[arg-type]
    done_file = file.with_suffix(".done")
    chunk = INPUTS_PER_CALL * 16
    finished = int(done_file.read_text()) if file.is_file() and done_file.is_file() else 0
    mode: Any = "r+" if finished else "w+"
    values = np.memmap(file, np.float32, mode, shape=(max(1, int(offsets[-1])), width))
    done(finished)
    for start in range(finished, len(batch), chunk):
        part = batch.select(np.arange(start, min(start + chunk, len(batch))))
        values[offsets[start] : offsets[start + len(part)]] = run_all(model, part, positions).values
        values.flush()
        draft = done_file.with_suffix(".partial")
        draft.write_text(str(start + len(part)))
        draft.replace(done_file)
        done(len(part))
    return Outputs(values, offsets)
