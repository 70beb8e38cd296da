"""What both FastAPI peers are: an application around a model, a thread pool, no batching. Knows no library."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

Model = Callable[[list[str]], list[dict[str, object]]]


class Texts(BaseModel):
    """A request."""

    input: list[str]


def create_app(model: Model) -> FastAPI:
    """Return the application of a loaded model."""
    app = FastAPI()

    @app.post("/predict")
    def predict(texts: Texts) -> list[dict[str, object]]:
        """Answer in a thread of the pool."""
        return model(texts.input)

    @app.get("/ready")
    def ready() -> str:
        """Say that the model is loaded."""
        return "yes"

    return app


def serve(model: Model, port: int) -> None:
    """Serve a loaded model until the process ends."""
    uvicorn.run(create_app(model), port=port, log_level="error")
