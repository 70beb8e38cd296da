"""FastAPI and OpenVINO INT8 by NNCF: the nearest that runs to what sentence-transformers' OpenVINO backend would be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from bench.engines.models import subject_from_model
from bench.engines.peers import Run, Threads, openvino_int8
from bench.service.peers.fastapi_app import serve
from octavo.tasks.probabilities import softmax


class OpenvinoModel:
    """The padded model in INT8; as many calls side by side as there are cores, each on one thread."""

    def __init__(self, folder: Path, lanes: int) -> None:
        """Convert and quantize the model in `folder`, or read what was converted before, beside it."""
        subject = subject_from_model(folder.name, folder)
        contender = openvino_int8(subject, Threads(each=1, lanes=lanes))
        self._names = json.loads((folder / "config.json").read_text("utf-8"))["id2label"]
        self._tokenizer = subject.tokenizer
        self._prepare = contender.prepare
        self._lanes: SimpleQueue[Run] = SimpleQueue()
        for lane in contender.lanes:
            self._lanes.put(lane)

    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        """Return label and confidence of each text."""
        inputs = self._prepare(self._tokenizer.encode(texts))
        lane = self._lanes.get()
        try:
            probabilities = softmax(lane(inputs))
        finally:
            self._lanes.put(lane)
        best = np.argmax(probabilities, axis=1)
        return [
            {"label": self._names[str(label)], "confidence": confidence}
            for label, confidence in zip(best.tolist(), probabilities.max(axis=1).tolist(), strict=True)
        ]


if __name__ == "__main__":
    serve(OpenvinoModel(Path(sys.argv[1]), lanes=2), port=int(sys.argv[2]))
