"""The little of CUDA that an engine needs: the GPU's name, a stream, memory on both sides. By NVIDIA's own bindings.

Knows no TensorRT. Every failure is an `EngineError` that says what to do.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo.errors import EngineError, MissingExtraError

_DRIVER_PAGE = "Install or update NVIDIA's driver; `nvidia-smi` shows what there is."


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that this process uses.

    Attributes:
        name: as NVIDIA sells it, such as `Tesla T4`.
        capability: compute capability, such as 75 for SM75.
        driver: CUDA version of the driver, such as `13.0`.
    """

    name: str
    capability: int
    driver: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """A pair of memories of one size: pinned on the host, so that copies do not wait, and on the device.

    Attributes:
        host: the pinned bytes.
        host_address: where they lie.
        device_address: where the device's bytes lie.
    """

    host: npt.NDArray[np.uint8]
    host_address: int
    device_address: int


class Cuda:
    """One GPU and one stream. Not thread-safe: callers take turns."""

    def __init__(self) -> None:
        """Find the GPU and make a stream on it.

        Raises:
            EngineError: NVIDIA's bindings are not installed, there is no driver, one that is too old, or no GPU.
        """
        try:
            from cuda.bindings import runtime
        except ImportError:
            raise EngineError(str(MissingExtraError("cuda-bindings", "tensorrt"))) from None
        self._runtime: Any = runtime
        self.gpu = self._find_gpu()
        self._stream = self._call("cudaStreamCreate")

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    def buffer(self, size_bytes: int) -> Buffer:
        """Return memory on both sides."""
        size_bytes = max(size_bytes, 1)
        host = int(self._call("cudaMallocHost", size_bytes))
        view = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(host))
        return Buffer(view, host, int(self._call("cudaMalloc", size_bytes)))

    def to_device(self, buffer: Buffer, size_bytes: int) -> None:
        """Start copying a buffer's first bytes to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", buffer.device_address, buffer.host_address, size_bytes, kind, self._stream)

    def to_host(self, buffer: Buffer, size_bytes: int) -> None:
        """Start copying a buffer's first bytes to the host."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", buffer.host_address, buffer.device_address, size_bytes, kind, self._stream)

    def wait(self) -> None:
        """Wait until all that was started is done."""
        self._call("cudaStreamSynchronize", self._stream)

    def free(self, buffers: list[Buffer]) -> None:
        """Free buffers and the stream. Their views must not be touched afterwards."""
        for buffer in buffers:
            self._call("cudaFree", buffer.device_address)
            self._call("cudaFreeHost", buffer.host_address)
        self._call("cudaStreamDestroy", self._stream)

    def _find_gpu(self) -> Gpu:
        error, count = self._runtime.cudaGetDeviceCount()
        if error == self._runtime.cudaError_t.cudaErrorInsufficientDriver:
            raise EngineError(f"There is no NVIDIA driver, or it is too old for this CUDA. {_DRIVER_PAGE}")
        if error == self._runtime.cudaError_t.cudaErrorNoDevice or (not error and not count):
            raise EngineError(
                "There is no NVIDIA GPU that this process can see (CUDA_VISIBLE_DEVICES may hide it). "
                "Use another engine: --engine openvino."
            )
        self._check(error, "cudaGetDeviceCount")
        properties = self._call("cudaGetDeviceProperties", self._call("cudaGetDevice"))
        driver = int(self._call("cudaDriverGetVersion"))
        name = properties.name.decode(errors="replace").rstrip("\0")
        capability = 10 * properties.major + properties.minor
        return Gpu(name, capability, f"{driver // 1000}.{driver % 1000 // 10}")

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the runtime; return its result where it has one."""
        error, *results = getattr(self._runtime, name)(*arguments)
        self._check(error, name)
        return results[0] if results else None

    def _check(self, error: Any, name: str) -> None:
        if error != self._runtime.cudaError_t.cudaSuccess:
            _, text = self._runtime.cudaGetErrorString(error)
            raise EngineError(f"CUDA failed: {name}: {text.decode(errors='replace')}. {_DRIVER_PAGE}")
