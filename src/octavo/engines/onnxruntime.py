"""The ONNX Runtime engine: on CPU it runs the u8 twin, the spelling that it fuses; on a GPU, the fp16 twin.

ONNX Runtime falls back to the CPU without a word where a provider cannot be used. This engine refuses instead.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import onnxruntime

from octavo.engines.cache import cache_folder
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import bucketed_layout, check_finite, closed_error
from octavo.engines.hardware import this_hardware
from octavo.engines.twin import fp16_graph
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES
from octavo.types import FloatArray


class Provider(StrEnum):
    """Who computes for ONNX Runtime, as it calls them."""

    CPU = "CPUExecutionProvider"
    CUDA = "CUDAExecutionProvider"
    TENSORRT = "TensorrtExecutionProvider"


class OnnxRuntimeEngine:
    """Runs the graph in the spelling that the provider likes best. ONNX Runtime itself is thread-safe."""

    def __init__(self, graph: ModelGraph, *, threads: int | None = None, provider: Provider = Provider.CPU) -> None:
        """Create the session.

        Args:
            graph: the model.
            threads: CPU threads; None for all.
            provider: who computes. CUDA and TensorRT run the fp16 twin, TensorRT its products in INT8.

        Raises:
            EngineError: ONNX Runtime cannot load the graph, or would not compute where it was asked to.
            ModelError: a weight lies outside the range of fp16, and the provider wants the twin.
        """
        if graph.precision == "bf16":
            raise EngineError("ONNX Runtime does not compute bfloat16. Serve this release in OpenVINO.")
        self._positions = graph.positions
        if provider is Provider.CPU:
            role = "u8" if "u8" in graph.graphs else "canonical"
            content, variant = graph.graphs[role], "-u8" if role == "u8" else ""
        else:
            _check_available(provider)
            content, variant = fp16_graph(graph), f"/fp16/{provider.removesuffix('ExecutionProvider').lower()}"
        self._id = f"onnxruntime-{onnxruntime.__version__}/{graph.precision}{variant}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its errors are raised as well
        if threads is not None:
            options.intra_op_num_threads = threads
        if not {"avx512_vnni", "avx_vnni"} & set(this_hardware().flags):
            # Without VNNI the u8 by s8 kernels add pairs in 16 bits and saturate: slower exact ones instead.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            # Joined with its bias into a Gemm, a product is no longer recognised as one of levels, and its weights are
            # turned into floats on every call: six times slower on short queries.
            session = onnxruntime.InferenceSession(
                content, options, providers=_asked(provider), disabled_optimizers=["MatMulAddFusion"]
            )
        except Exception as error:  # its errors share no base class
            raise EngineError(f"ONNX Runtime cannot build the engine: {error}") from None
        if (used := session.get_providers())[0] != provider:
            raise EngineError(
                f"ONNX Runtime would run on {used[0]} and not on {provider}: there is no GPU here, or its driver, "
                "CUDA and TensorRT do not fit this onnxruntime-gpu. Use another engine: --engine openvino."
            )
        self._session: onnxruntime.InferenceSession | None = session
        self._width = int(session.get_outputs()[0].shape[1])

    @property
    def engine_id(self) -> str:
        """Backend, version and graph."""
        return self._id

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, (reads, width)."""
        session = self._session
        if session is None:
            raise closed_error(self._id)
        if not len(batch):
            return np.zeros((0, self._width), np.float32)
        layout = bucketed_layout(batch, self._positions)
        try:
            (output,) = session.run(None, {name: getattr(layout, name) for name in INPUT_NAMES})
        except Exception as error:  # its errors share no base class
            raise EngineError(f"{self._id} failed: {error}") from None
        return check_finite(np.asarray(output[: len(batch.read_places)], np.float32), self._id)

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Run the batches once, so that buffers are allocated."""
        for batch in batches:
            self.run(batch)

    def close(self) -> None:
        """Drop the session; calls in flight finish."""
        self._session = None


def _check_available(provider: Provider) -> None:
    known = onnxruntime.get_available_providers()
    if provider not in known:
        raise EngineError(
            f"This ONNX Runtime has no {provider} (it has: {', '.join(known)}). "
            "Install the one for GPUs in its place: pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )


def _asked(provider: Provider) -> list[Any]:
    """Return the providers to ask for. The CPU computes shapes even where a GPU computes the rest."""
    if provider is Provider.CPU:
        return [str(provider)]
    settings = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache_folder() / "onnxruntime")}
    return [(str(provider), settings if provider is Provider.TENSORRT else {}), str(Provider.CPU)]
