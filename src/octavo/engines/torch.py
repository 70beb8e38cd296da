"""The torch engine: the reference for numbers, float or fake-quantized. Not for serving."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from octavo.encoder.running import run
from octavo.engines.guard import check_finite, closed_error
from octavo.text.batch import TokenBatch
from octavo.text.layout import Positions
from octavo.types import FloatArray


class TorchEngine:
    """Runs a torch model over packed batches of any shape."""

    def __init__(self, model: nn.Module, positions: Positions, precision: str) -> None:
        """Take a model in evaluation mode; `precision` (`fp32`, `int8-simulated`) goes into the id."""
        self._model: Any = model
        self._positions = positions
        self._width = int(model.width)  # type: ignore[arg-type]
        self._id = f"torch-{torch.__version__.split('+')[0]}/{precision}"

    @property
    def engine_id(self) -> str:
        """Backend, version and precision."""
        return self._id

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, (reads, width)."""
        model = self._model
        if model is None:
            raise closed_error(self._id)
        if not len(batch):
            return np.zeros((0, self._width), np.float32)
        return check_finite(run(model, batch, self._positions), self._id)

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Run the batches once."""
        for batch in batches:
            self.run(batch)

    def close(self) -> None:
        """Drop the model."""
        self._model = None
