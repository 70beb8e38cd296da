"""One training loop: AdamW over packed batches, the best epoch by a dev score, resumable when interrupted.

Knows nothing of tasks, teachers or quantization: an objective and a dev score are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from octavo.distill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from octavo.distill.steps import Objective, Step
from octavo.encoder.running import tensors_from_layout
from octavo.progress import Progress
from octavo.tasks.base import Groups
from octavo.text.batch import TokenBatch
from octavo.text.layout import Positions, layout_from_batch
from octavo.types import IntArray

# Returns a score of the model as it stands, higher is better.
DevScore = Callable[[nn.Module], float]

_STEPS_BETWEEN_CHECKPOINTS = 200
_CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the groups.
        learning_rate: peak, after a linear warm-up over the first tenth; then linear decay to 0.
        batch_size: groups per step (rows, query-document pairs, or candidate lists).
        seed: of the order of the groups and of dropout.
        scale_learning_rate: of quantization step sizes; unused without them.
        weight_decay: on matrices; biases, norms and step sizes have none.
        patience: epochs without a better dev score after which training stops.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    scale_learning_rate: float = 0.0
    weight_decay: float = 0.01
    patience: int = 2


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What is trained on.

    Attributes:
        batch: every training input, tokenized; it may lie on disk.
        groups: which inputs are trained on together; a step takes whole groups.
        positions: as in the encoder's configuration.
    """

    batch: TokenBatch
    groups: Groups
    positions: Positions

    def step(self, groups: IntArray) -> tuple[TokenBatch, Step]:
        """Return the tokens of some groups, and what an objective is told about them."""
        starts, sizes = self.groups.offsets[groups], np.diff(self.groups.offsets)[groups]
        inputs = np.asarray(self.groups.inputs[_runs(starts, sizes)], np.int64)
        read_offsets = self.batch.read_offsets
        reads = read_offsets[inputs + 1] - read_offsets[inputs]
        rows = _runs(read_offsets[inputs], reads)
        return self.batch.select(inputs), Step(groups, inputs, sizes, rows, reads)


@dataclass(frozen=True, slots=True)
class Trained:
    """How training went: the dev score at the start and after each epoch, and the epoch that was kept."""

    dev_scores: list[float]
    best_epoch: int


def train(
    model: nn.Module,
    data: TrainingData,
    objective: Objective,
    dev_score: DevScore,
    plan: Plan,
    *,
    label: str,
    progress: Progress,
    describe: Callable[[float], str] = "dev {:.4f}".format,
    checkpoint: Path | None = None,
    fingerprint: str = "",
) -> Trained:
    """Train in place and leave the model with the weights of its best epoch, in evaluation mode.

    The start counts as epoch 0: training never makes the dev score worse.

    Args:
        model: takes the tensors of a `PackedLayout`, returns output rows.
        data: what is trained on.
        objective: the loss.
        dev_score: called before the first epoch and after each.
        plan: epochs, rates, seed.
        label: names the job in the progress display.
        progress: where to report.
        describe: says a dev score to people.
        checkpoint: file that an interrupted run resumes from; removed at the end.
        fingerprint: names the job; a checkpoint of another job is ignored.
    """
    optimizer = _optimizer(model, plan)
    steps_per_epoch = math.ceil(len(data.groups) / plan.batch_size)
    total = steps_per_epoch * plan.epochs
    resumed = load_checkpoint(checkpoint, fingerprint, model, optimizer) if checkpoint else None
    state = resumed or Checkpoint(0, [dev_score(model.eval())], best_epoch=0, best=_snapshot(model))

    def keep() -> None:
        if checkpoint:
            save_checkpoint(checkpoint, fingerprint, model, optimizer, state)

    settled = True  # weights, moments and state belong together
    with progress.step(label, total) as bar:
        bar.advance(state.step, _note(state, describe))
        try:
            while (epoch := len(state.dev_scores) - 1) < plan.epochs and not _out_of_patience(state, plan):
                model.train()
                for groups in _batches(len(data.groups), plan, epoch, state.step - epoch * steps_per_epoch):
                    _set_rates(optimizer, plan, state.step, total)
                    torch.manual_seed(plan.seed * 1_000_003 + state.step)  # dropout: equal after a resume
                    batch, step = data.step(groups)
                    layout = layout_from_batch(batch, data.positions)
                    loss = objective(model(*tensors_from_layout(layout)), step)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(model.parameters(), _CLIP_NORM)
                    settled = False
                    optimizer.step()
                    state.step += 1
                    settled = True
                    bar.advance(1, f"loss {loss.item():.3f}, {_note(state, describe)}")
                    if state.step % _STEPS_BETWEEN_CHECKPOINTS == 0:
                        keep()
                score = dev_score(model.eval())
                settled = False
                _close_epoch(state, score, model)
                settled = True
                bar.advance(0, _note(state, describe))
                keep()
        except KeyboardInterrupt:
            if settled:
                keep()
            raise
    model.load_state_dict(state.best)
    model.eval()
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return Trained(state.dev_scores, state.best_epoch)


def _optimizer(model: nn.Module, plan: Plan) -> torch.optim.AdamW:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    scales = [p for name, p in named if name.endswith("log_scale")]
    matrices = [p for name, p in named if p.dim() > 1]
    vectors = [p for name, p in named if p.dim() <= 1 and not name.endswith("log_scale")]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay, "peak": plan.learning_rate},
        {"params": vectors, "weight_decay": 0.0, "peak": plan.learning_rate},
        {"params": scales, "weight_decay": 0.0, "peak": plan.scale_learning_rate},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=plan.learning_rate, fused=True)


def _set_rates(optimizer: torch.optim.Optimizer, plan: Plan, step: int, total: int) -> None:
    """Linear warm-up over the first tenth, then linear decay to 0 at the end of the planned epochs."""
    warmup = max(1, total // 10)
    factor = min((step + 1) / warmup, (total - step) / max(1, total - warmup))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _batches(count: int, plan: Plan, epoch: int, first: int) -> Iterator[IntArray]:
    """Yield the epoch's batches of group numbers from number `first` on; seed and epoch decide the order."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(plan.seed * 1_000_003 + epoch))
    for groups in torch.split(order, plan.batch_size)[first:]:
        yield groups.numpy()


def _runs(starts: IntArray, sizes: IntArray) -> IntArray:
    """Return the numbers `starts[i]` to `starts[i] + sizes[i]` of each run, run after run."""
    offsets = np.cumsum(sizes) - sizes
    return np.asarray(np.arange(int(sizes.sum())) + np.repeat(starts - offsets, sizes), np.int64)


def _close_epoch(state: Checkpoint, score: float, model: nn.Module) -> None:
    state.dev_scores.append(score)
    if score > state.dev_scores[state.best_epoch]:
        state.best_epoch = len(state.dev_scores) - 1
        state.best = _snapshot(model)


def _out_of_patience(state: Checkpoint, plan: Plan) -> bool:
    return len(state.dev_scores) - 1 - state.best_epoch >= plan.patience


def _note(state: Checkpoint, describe: Callable[[float], str]) -> str:
    return f"{describe(state.dev_scores[-1])}, best after epoch {state.best_epoch}"


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
