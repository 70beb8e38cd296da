"""FastAPI and PyTorch, a thread pool, no batching: the commonest way to serve a model."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bench.service.peers.torch_model import TorchModel

app = FastAPI()
model: TorchModel


class Texts(BaseModel):
    """A request."""

    input: list[str]


@app.post("/predict")
def predict(texts: Texts) -> list[dict[str, object]]:
    """Answer in a thread of the pool."""
    return model(texts.input)


@app.get("/ready")
def ready() -> str:
    """Say that the model is loaded."""
    return "yes"


if __name__ == "__main__":
    model = TorchModel(Path(sys.argv[1]), threads=2)
    uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
