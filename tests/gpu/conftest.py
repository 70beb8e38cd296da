"""What the tests here need, and why they were not run where it is missing."""

from __future__ import annotations

import importlib.util

import pytest

from octavo.engines.cuda import Cuda, Gpu
from octavo.errors import EngineError


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """Return the GPU."""
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip("not run: the package tensorrt is not installed (pip install 'octavo[tensorrt]')")
    try:
        return Cuda().gpu
    except EngineError as error:
        pytest.skip(f"not run: {error}")
