"""What users run today: the teacher in `transformers`, eager FP32 PyTorch, padded to the longest text of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from octavo.types import FloatArray


def torch_fp32(folder: Path, max_length: int) -> Callable[[Sequence[str]], FloatArray]:
    """Return the teacher as a function from texts to logits, with its own tokenizer and fused attention."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, attn_implementation="sdpa"
    ).eval()

    def run(texts: Sequence[str]) -> FloatArray:
        inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            return model(**inputs).logits.numpy()  # type: ignore[no-any-return]

    return run
