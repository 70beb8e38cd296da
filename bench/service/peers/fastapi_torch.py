"""FastAPI and PyTorch, a thread pool, no batching: the commonest way to serve a model."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.service.peers.fastapi_app import serve
from bench.service.peers.torch_model import TorchModel

if __name__ == "__main__":
    serve(TorchModel(Path(sys.argv[1]), threads=2), port=int(sys.argv[2]))
