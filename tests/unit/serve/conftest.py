"""Replies, batches and releases as the service would have them, without a service."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from octavo.engines.open import Backend
from octavo.serve.service import BatchRun, ModelInfo, Reply, Timing
from octavo.tasks.classify import Classify
from octavo.types import Outputs

TASK = Classify(("greeting", "refund", "tracking"))


@pytest.fixture
def make_reply() -> Callable[..., Reply]:
    """Return a reply to `inputs` texts, each with the same logits."""

    def make(version: str = "1", *, model: str = "intents", inputs: int = 1, **changes: Any) -> Reply:
        logits = changes.pop("logits", (2.0, 1.0, 0.0))
        outputs = Outputs.one_each(np.tile(np.array(logits, np.float32), (inputs, 1)))
        timing = Timing(queue_ms=1.0, tokenize_ms=0.1, compute_ms=4.0)
        facts = {"answers": [], "tokens": 7 * inputs, "timing": timing, "cached": 0}
        return Reply(model=model, version=version, outputs=outputs, **(facts | changes))

    return make


@pytest.fixture
def make_batch_run() -> Callable[..., BatchRun]:
    """Return a batch of 4 sequences."""

    def make(version: str = "1", *, model: str = "intents", **changes: Any) -> BatchRun:
        facts = {"sequences": 4, "tokens": 30, "padded_tokens": 40, "tokenize_s": 1e-4, "compute_s": 4e-3}
        return BatchRun(model=model, version=version, **(facts | changes))

    return make


@pytest.fixture
def make_info(make_certificate: Any) -> Callable[..., ModelInfo]:
    """Return a release that serves."""

    def make(version: str = "1", *, model: str = "intents", task: Any = TASK) -> ModelInfo:
        return ModelInfo(
            model=model,
            version=version,
            task=task,
            max_length=64,
            backend=Backend.OPENVINO,
            engine_id="openvino-1.0/int8",
            precision="int8",
            certificate=make_certificate(version=version),
            sha256=version * 64,
            since="2026-01-02T03:04:05Z",
        )

    return make
