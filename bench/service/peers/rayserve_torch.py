"""Ray Serve and PyTorch, with `@serve.batch`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from bench.service.peers.torch_model import TorchModel


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Classifier:
    """One replica: two cores leave no room for more."""

    def __init__(self, teacher: str) -> None:
        self.model = TorchModel(Path(teacher), threads=2)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def predict(self, requests: list[list[str]]) -> list[list[dict[str, Any]]]:
        """Run all texts of a batch at once."""
        answers = iter(self.model([text for texts in requests for text in texts]))
        return [[next(answers) for _ in texts] for texts in requests]

    async def __call__(self, request: Request) -> Any:
        """Answer one request."""
        if request.url.path == "/ready":
            return "yes"
        return await self.predict((await request.json())["input"])


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=True, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    deployment: Any = Classifier  # the decorator has made it one
    serve.run(deployment.bind(sys.argv[1]), route_prefix="/")
    while True:
        time.sleep(1.0)
