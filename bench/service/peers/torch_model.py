"""The teacher in transformers, as a function from texts to labels: what a user of FP32 PyTorch serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class TorchModel:
    """FP32, padded to the longest text of the batch."""

    def __init__(self, teacher: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(teacher)
        self._model = AutoModelForSequenceClassification.from_pretrained(teacher).eval()

    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        """Return label and confidence of each text."""
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with self._torch.inference_mode():
            best = self._model(**batch).logits.softmax(-1).max(-1)
        names = self._model.config.id2label
        return [
            {"label": names[int(label)], "confidence": float(confidence)}
            for label, confidence in zip(best.indices, best.values, strict=True)
        ]
