"""Running a torch model over packed batches: layout to tensors, tensors to logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES, PackedLayout, layout_from_batch
from octavo.types import FloatArray

# Rows per call when a whole split is run: enough to fill the cores, few enough for long texts.
ROWS_PER_CALL = 64


def tensors_from_layout(layout: PackedLayout) -> tuple[Tensor, ...]:
    """Return the layout's arrays as tensors, in the order of the models' arguments."""
    return tuple(torch.from_numpy(getattr(layout, name)) for name in INPUT_NAMES)


def run(model: nn.Module, batch: TokenBatch, position_offset: int) -> FloatArray:
    """Return a model's output for one batch, without padding, (batch, outputs)."""
    with torch.inference_mode():
        output: Tensor = model(*tensors_from_layout(layout_from_batch(batch, position_offset)))
        return output.float().numpy()


def run_all(
    model: nn.Module, batch: TokenBatch, position_offset: int, done: Callable[[int], None] = lambda _rows: None
) -> FloatArray:
    """Return a model's output for any number of rows, in their order, (rows, outputs).

    Runs the longest rows first, so that rows of one call are of like length. `done` is told how many rows each call
    ran.
    """
    order = np.argsort(-batch.lengths, kind="stable")
    parts = []
    for start in range(0, len(order), ROWS_PER_CALL):
        rows = order[start : start + ROWS_PER_CALL]
        parts.append(run(model, batch.select(rows), position_offset))
        done(len(rows))
    output = np.concatenate(parts) if parts else run(model, batch, position_offset)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return output[back]
