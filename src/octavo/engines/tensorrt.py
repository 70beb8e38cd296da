"""The TensorRT engine, the reference story's own path: FP16 for a float graph, INT8 amid FP16 for one with Q/DQ pairs.

Runs the fp16 twin of the canonical graph, from a plan that is built once for each release, version and GPU.

No part of this file has been run on a GPU: docs/gpu.md says what was checked without one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from octavo.engines.cache import cache_folder, cached_blob, write_atomically
from octavo.engines.cuda import Buffer, Cuda, Gpu
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import bucketed_layout, check_finite, closed_error
from octavo.engines.tensorrt_plan import (
    MOST_SEQUENCES,
    MOST_TOKENS,
    Profile,
    build_plan,
    profiles_from_shapes,
    reads_in,
    tensorrt_package,
)
from octavo.engines.twin import fp16_graph
from octavo.errors import EngineError
from octavo.recipe import TensorRt
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES, PackedLayout
from octavo.types import FloatArray

_OUTPUT = "output"
_LEAST_CAPABILITY = 75  # the first with INT8 tensor cores that TensorRT 10 and 11 both build for


class TensorRtEngine:
    """Runs a plan on one stream. One call at a time uses the GPU; other callers wait."""

    def __init__(self, graph: ModelGraph, *, options: TensorRt | None = None) -> None:
        """Build the plan, or take it out of the cache, and reserve memory for the largest batch.

        Args:
            graph: the model; its `shapes` are what kernels are tuned to.
            options: how plans are built.

        Raises:
            EngineError: a package, the driver or the GPU is missing or too old, or TensorRT refuses the graph.
            ModelError: a weight lies outside the range of fp16.
        """
        package = tensorrt_package()
        self._cuda = Cuda()
        _check_capability(self._cuda.gpu)
        options = options or TensorRt()
        self._positions = graph.positions
        self._profiles = profiles_from_shapes(graph.shapes, graph.max_length, options.profiles)
        self._id = f"tensorrt-{package.__version__}/{graph.precision}/fp16/{_slug(self._cuda.gpu)}"
        loaded = _cached_plan(package, self._cuda.gpu, graph, self._profiles, options, self._id)
        self._engine = loaded.engine
        names = [self._engine.get_tensor_name(place) for place in range(self._engine.num_io_tensors)]
        self._inputs = [name for name in INPUT_NAMES if name in names]  # a graph need not use all of them
        self._width = int(self._engine.get_tensor_shape(_OUTPUT)[1])
        self._buffers = self._reserve()
        self._contexts: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._open = True

    @property
    def engine_id(self) -> str:
        """Backend, version, graph, float precision and GPU."""
        return self._id

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, (reads, width); batches that are larger than the plan's shapes are cut."""
        with self._lock:
            if not self._open:
                raise closed_error(self._id)
            outputs = [self._run(part) for part in _parts(batch)]
        output = np.concatenate(outputs) if outputs else np.zeros((0, self._width), np.float32)
        return check_finite(output, self._id)

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Run the batches once: contexts are made, and kernels loaded, at their first use."""
        for batch in batches:
            self.run(batch)
        if not self._open:
            raise closed_error(self._id)

    def close(self) -> None:
        """Free the plan and its memory."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._contexts.clear()
            self._engine = None
            self._cuda.free(list(self._buffers.values()))
            self._buffers.clear()

    def _run(self, batch: TokenBatch) -> FloatArray:
        layout = bucketed_layout(batch, self._positions)
        context = self._context(layout)
        for name in self._inputs:
            values = np.ascontiguousarray(getattr(layout, name))
            buffer = self._buffers[name]
            buffer.host[: values.nbytes] = values.view(np.uint8).reshape(-1)
            self._cuda.to_device(buffer, values.nbytes)
            if not context.set_input_shape(name, values.shape):
                raise EngineError(f"{self._id} failed: it does not take {name} of shape {values.shape}.")
        rows = int(context.get_tensor_shape(_OUTPUT)[0])
        if not context.execute_async_v3(self._cuda.stream):
            raise EngineError(f"{self._id} failed: TensorRT did not start the batch of shape {layout.shape}.")
        size_bytes = rows * self._width * np.dtype(np.float32).itemsize
        self._cuda.to_host(self._buffers[_OUTPUT], size_bytes)
        self._cuda.wait()
        output = self._buffers[_OUTPUT].host[:size_bytes].view(np.float32).reshape(rows, self._width)
        return output[: len(batch.read_places)].copy()

    def _context(self, layout: PackedLayout) -> Any:
        """Return the context of the narrowest profile that holds the shape; each is made once."""
        place = next((i for i, profile in enumerate(self._profiles) if profile.holds(layout.shape)), None)
        if place is None:
            most = self._profiles[-1].most
            raise EngineError(f"{self._id} failed: the plan is for shapes up to {most}, not for {layout.shape}.")
        if place not in self._contexts:
            context = self._engine.create_execution_context()
            if context is None:
                raise EngineError(f"{self._id} failed: there is not enough GPU memory for its work space.")
            context.set_optimization_profile_async(place, self._cuda.stream)
            for name in (*self._inputs, _OUTPUT):
                context.set_tensor_address(name, self._buffers[name].device_address)
            self._contexts[place] = context
        return self._contexts[place]

    def _reserve(self) -> dict[str, Buffer]:
        """Reserve memory for the largest shape, so that no call allocates."""
        tokens, sequences, length = most = self._profiles[-1].most
        reads = max(reads_in(most), sequences)
        sizes = {"slots": sequences * length * 8, "mask": sequences * length * 4, "read": reads * 8}
        sizes |= dict.fromkeys(("input_ids", "position_ids", "rows"), tokens * 8)
        buffers = {name: self._cuda.buffer(sizes[name]) for name in self._inputs}
        return buffers | {_OUTPUT: self._cuda.buffer(reads * self._width * 4)}


class _Loaded(NamedTuple):
    """A plan's bytes, and the engine that was made of them."""

    plan: bytes
    engine: Any


def _cached_plan(
    package: Any, gpu: Gpu, graph: ModelGraph, profiles: list[Profile], options: TensorRt, engine_id: str
) -> _Loaded:
    """Take the plan out of the cache, or build it. A plan of another GPU or version has another key, and is built."""
    runtime = package.Runtime(package.Logger(package.Logger.ERROR))
    timings = _timing_file(package, gpu)

    def import_(plan: bytes) -> _Loaded:
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise RuntimeError("TensorRT refuses the plan")  # the cache then builds it anew
        return _Loaded(plan, engine)

    def compile_() -> _Loaded:
        known = b""
        with contextlib.suppress(OSError, RuntimeError):
            known = timings.read_bytes()
        built = build_plan(package, fp16_graph(graph), profiles, options, timing_cache=known)
        with contextlib.suppress(OSError, RuntimeError):
            write_atomically(timings, built.timing_cache)
        try:
            return import_(built.content)
        except RuntimeError:
            raise EngineError(
                f"{engine_id} cannot run the plan that it just built on {gpu.name} (sm{gpu.capability}, driver for "
                f"CUDA {gpu.driver}): TensorRT and the driver do not fit. Update the driver."
            ) from None

    key = f"{engine_id}/{profiles}/{options}"
    return cached_blob(graph.key, key, compile_, lambda loaded: loaded.plan, import_)


def _timing_file(package: Any, gpu: Gpu) -> Path:
    return cache_folder() / f"tensorrt-{package.__version__}-{_slug(gpu)}.timing"


def _slug(gpu: Gpu) -> str:
    """Return a GPU's name for ids and files, such as `tesla-t4-sm75`."""
    name = "".join(letter if letter.isalnum() else "-" for letter in gpu.name.lower())
    return f"{name}-sm{gpu.capability}"


def _check_capability(gpu: Gpu) -> None:
    if gpu.capability < _LEAST_CAPABILITY:
        raise EngineError(
            f"{gpu.name} is of compute capability {gpu.capability / 10}: INT8 engines need 7.5 (T4, RTX 20) or newer. "
            "Use another engine: --engine openvino."
        )


def _parts(batch: TokenBatch) -> Iterator[TokenBatch]:
    """Cut a batch into such as the plan's largest shape holds; nearly always one."""
    start, tokens = 0, 0
    for row, length in enumerate(batch.lengths.tolist()):
        if row > start and (row - start == MOST_SEQUENCES or tokens + length > MOST_TOKENS):
            yield batch.select(np.arange(start, row))
            start, tokens = row, 0
        tokens += length
    if len(batch):
        yield batch if start == 0 else batch.select(np.arange(start, len(batch)))
