"""The torch engine: the reference for numbers, float or fake-quantized. Not for serving."""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.engines.guard import check_finite, closed_error
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES, PackedLayout, layout_from_batch
from octavo.types import FloatArray

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    from octavo.errors import MissingExtraError

    raise MissingExtraError("torch", "compress") from None


def tensors_from_layout(layout: PackedLayout) -> tuple[Tensor, ...]:
    """Return the layout's arrays as tensors, in the order of the models' arguments."""
    return tuple(torch.from_numpy(getattr(layout, name)) for name in INPUT_NAMES)


class TorchEngine:
    """Runs a torch model over packed batches of any shape."""

    def __init__(self, model: nn.Module, position_offset: int, precision: str) -> None:
        """Take a model in evaluation mode; `precision` (`fp32`, `int8-simulated`) goes into the id."""
        self._model: Any = model
        self._offset = position_offset
        self._outputs = int(model.get_submodule("head.output").out_features)  # type: ignore[arg-type]
        self._id = f"torch-{torch.__version__.split('+')[0]}/{precision}"

    @property
    def engine_id(self) -> str:
        """Backend, version and precision."""
        return self._id

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, (batch, outputs)."""
        model = self._model
        if model is None:
            raise closed_error(self._id)
        if not len(batch):
            return np.zeros((0, self._outputs), np.float32)
        with torch.inference_mode():
            output = model(*tensors_from_layout(layout_from_batch(batch, self._offset)))
        return check_finite(output.float().numpy(), self._id)

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Run the batches once."""
        for batch in batches:
            self.run(batch)

    def close(self) -> None:
        """Drop the model."""
        self._model = None
