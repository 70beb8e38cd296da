"""What an interrupted training resumes from: tensors in safetensors, the rest in its header. No pickle."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass
class Checkpoint:
    """Where training stands: optimizer steps done, dev scores so far (start first), and the best weights."""

    step: int
    dev_scores: list[float]
    best_epoch: int
    best: dict[str, Tensor]


def save_checkpoint(
    file: Path, fingerprint: str, model: nn.Module, optimizer: torch.optim.Optimizer, state: Checkpoint
) -> None:
    """Write model, optimizer and progress to `file`, whole or not at all."""
    tensors = {f"model/{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{number}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    header = {"step": state.step, "dev_scores": state.dev_scores, "best_epoch": state.best_epoch}
    draft = file.with_suffix(".partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    # Tied or viewed tensors would be refused: every tensor gets memory of its own.
    contiguous = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(contiguous, draft, metadata={"fingerprint": fingerprint, "state": json.dumps(header)})
    draft.replace(file)


def load_checkpoint(
    file: Path, fingerprint: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Checkpoint | None:
    """Restore model and optimizer from `file`; None, and nothing touched, if it is missing or unfit."""
    with contextlib.suppress(OSError, SafetensorError, ValueError, KeyError, TypeError):
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata["fingerprint"] != fingerprint:
                return None
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        state = Checkpoint(best=_under("best/", tensors), **json.loads(metadata["state"]))
        weights = _under("model/", tensors)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("adam/", tensors).items():
            number, _, key = name.partition("/")
            moments.setdefault(int(number), {})[key] = tensor
        wanted = _shapes(model.state_dict())
        if _shapes(weights) != wanted or _shapes(state.best) != wanted:
            return None
        model.load_state_dict(weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return state
    return None


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
