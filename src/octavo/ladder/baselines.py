"""What users run today: the teacher in `transformers`, eager FP32 PyTorch, padded to the longest text of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from octavo.tasks.base import Head, Reads
from octavo.types import Input, Pair, Words


def torch_fp32(folder: Path, head: Head, max_length: int) -> Callable[[Sequence[Input]], Tensor]:
    """Return the teacher as a function from inputs to what its head puts out, with its own tokenizer."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = (
        _class_for(head).from_pretrained(folder, local_files_only=True, attn_implementation="sdpa").float().eval()
    )

    def run(inputs: Sequence[Input]) -> Tensor:
        encoded = tokenizer(**_arguments(inputs), padding=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            output = model(**encoded)
            if head.outputs is not None:
                return output.logits  # type: ignore[no-any-return]
            pooled = _pooled(output.last_hidden_state, encoded["attention_mask"], head.reads)
            return torch.nn.functional.normalize(pooled, dim=-1) if head.normalize else pooled

    return run


def _class_for(head: Head) -> Any:
    if head.outputs is None:
        return AutoModel
    return AutoModelForTokenClassification if head.reads is Reads.WORDS else AutoModelForSequenceClassification


def _arguments(inputs: Sequence[Input]) -> dict[str, Any]:
    """Return the tokenizer's arguments for inputs, which are all of one kind."""
    if isinstance(inputs[0], Pair):
        pairs = [one for one in inputs if isinstance(one, Pair)]
        return {"text": [p.first for p in pairs], "text_pair": [p.second for p in pairs], "truncation": "only_second"}
    if isinstance(inputs[0], Words):
        words = [list(one.words) for one in inputs if isinstance(one, Words)]
        return {"text": words, "is_split_into_words": True, "truncation": True}
    return {"text": list(inputs), "truncation": True}


def _pooled(states: Tensor, mask: Tensor, reads: Reads) -> Tensor:
    """Return one state per text, (batch, hidden), of (batch, length, hidden)."""
    if reads is Reads.FIRST:
        return states[:, 0]
    if reads is Reads.LAST:
        return states[torch.arange(len(states)), mask.sum(1) - 1]
    weights = mask[:, :, None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
