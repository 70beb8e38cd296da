"""LitServe and PyTorch, with its dynamic batching."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve

from bench.service.peers.torch_model import TorchModel


class Api(litserve.LitAPI):
    """Batches requests of one or more texts."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self.model = TorchModel(Path(sys.argv[1]), threads=2)

    def decode_request(self, request):  # LitServe reads types off the signature, and needs none here
        """Return the texts."""
        return list(request["input"])

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        """Keep requests apart: they may have several texts."""
        return inputs

    def predict(self, requests: list[list[str]]) -> list[list[dict[str, Any]]]:
        """Run all texts of a batch at once."""
        answers = iter(self.model([text for texts in requests for text in texts]))
        return [[next(answers) for _ in texts] for texts in requests]

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return one answer per request."""
        return output

    def encode_response(self, output: Any) -> Any:
        """Return JSON."""
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.002)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error"
    )
