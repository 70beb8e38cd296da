"""Stand-ins for `tensorrt` and `cuda.bindings`, so that the engine's own code is run where there is no GPU.

They keep the rules that the real ones have and the engine must respect: shapes lie within the profile, inputs are
where their addresses say, copies reach the device only when they are asked for, nothing is used after it was freed.
A plan is the graph itself; ONNX Runtime computes it. They say nothing about TensorRT's numbers or speed.
"""

from __future__ import annotations

import ctypes
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

MAGIC = b"FAKE PLAN "


class FakeTensorRt(ModuleType):
    """The package. `builds` counts how often a plan was built; `refused` makes every plan unreadable."""

    def __init__(self, version: str = "11.4.0") -> None:
        super().__init__("tensorrt")
        self.__spec__ = ModuleSpec("tensorrt", None)  # torch looks for it
        self.__version__ = version
        self.builds: list[Any] = []
        self.flags: list[int] = []
        self.refused = False
        names = ["STRONGLY_TYPED"] if version.startswith("10") else []
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**dict.fromkeys(names, 1))
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.ILogger = type("ILogger", (), {"ERROR": 1})
        self.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity: None})
        self.Builder = lambda log: _Builder(self)
        self.OnnxParser = _Parser
        self.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=self._deserialized)

    def _deserialized(self, plan: bytes) -> Any:
        if self.refused or not plan.startswith(MAGIC + self.__version__.encode()):
            return None
        return _Engine(plan)


class _Network:
    def __init__(self) -> None:
        self.graph = onnx.ModelProto()

    @property
    def num_inputs(self) -> int:
        return len(self.graph.graph.input)

    def get_input(self, place: int) -> Any:
        value = self.graph.graph.input[place]
        names = [size.dim_param for size in value.type.tensor_type.shape.dim]
        return SimpleNamespace(name=value.name, shape=(-1,) * len(names), get_dimension_name=names.__getitem__)


class _Parser:
    def __init__(self, network: _Network, log: Any) -> None:
        self._network, self.num_errors = network, 0

    def parse(self, content: bytes) -> bool:
        try:
            self._network.graph = onnx.load_model_from_string(content)
        except Exception as error:
            self._error, self.num_errors = str(error), 1
            return False
        return True

    def get_error(self, place: int) -> str:
        return self._error


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        assert all(a <= b <= c for a, b, c in zip(least, usual, most, strict=True)), (name, least, usual, most)
        self.shapes[name] = (least, usual, most)


class _Config:
    def __init__(self) -> None:
        self.profiles: list[Any] = []
        self.workspace_bytes = 0

    def set_memory_pool_limit(self, pool: str, size_bytes: int) -> None:
        self.workspace_bytes = size_bytes

    def add_optimization_profile(self, profile: _Profile) -> None:
        self.profiles.append(profile.shapes)

    def create_timing_cache(self, content: bytes) -> Any:
        self.timings_given = content
        return SimpleNamespace(serialize=lambda: b"timings")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return True


class _Builder:
    def __init__(self, package: FakeTensorRt) -> None:
        self._package = package
        self.create_builder_config = _Config
        self.create_optimization_profile = _Profile

    def create_network(self, flags: int) -> _Network:
        self._package.flags.append(flags)
        return _Network()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        self._package.builds.append(config)
        header = MAGIC + self._package.__version__.encode() + b"\n" + json.dumps(config.profiles).encode() + b"\n"
        return header + network.graph.SerializeToString()


class _Engine:
    def __init__(self, plan: bytes) -> None:
        _, profiles, content = plan.split(b"\n", 2)
        self.profiles = json.loads(profiles)
        graph = onnx.load_model_from_string(content)
        self.types = {
            value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            for value in (*graph.graph.input, *graph.graph.output)
        }
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.names = list(self.types)
        self.width = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        self.row_name = graph.graph.output[0].type.tensor_type.shape.dim[0].dim_param

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, place: int) -> str:
        return self.names[place]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "output"
        return (-1, self.width)

    def create_execution_context(self) -> Any:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._profile: dict[str, Any] = {}
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def set_optimization_profile_async(self, place: int, stream: int) -> bool:
        self._profile = self._engine.profiles[place]
        return True

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._profile[name]
        self._shapes[name] = tuple(shape)
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        by_batch = self._engine.row_name == "batch"
        return (self._shapes["slots"][0] if by_batch else self._shapes["read"][0], self._engine.width)

    def execute_async_v3(self, stream: int) -> bool:
        wanted = {value.name for value in self._engine.session.get_inputs()}
        feeds = {name: self._array(name, shape) for name, shape in self._shapes.items() if name in wanted}
        try:
            (output,) = self._engine.session.run(None, feeds)
        except Exception:  # a token outside the vocabulary; a GPU would read what lies there
            output = np.zeros(self.get_tensor_shape("output"), np.float32)
        content = np.ascontiguousarray(output, np.float32).tobytes()
        ctypes.memmove(self._addresses["output"], content, len(content))
        return True

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        kind = np.dtype(self._engine.types[name])
        content = ctypes.string_at(self._addresses[name], int(np.prod(shape)) * kind.itemsize)
        return np.frombuffer(content, kind).reshape(shape)


class FakeCuda(ModuleType):
    """`cuda.bindings.runtime`; memory is the host's. `error` is what counting the GPUs answers."""

    def __init__(self, name: str = "Tesla T4", capability: tuple[int, int] = (7, 5), error: int = 0) -> None:
        super().__init__("cuda.bindings.runtime")
        errors = {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2, "cudaErrorInsufficientDriver": 35}
        self.cudaError_t = SimpleNamespace(**errors, cudaErrorNoDevice=100)
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        self.live: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.full = False
        major, minor = capability
        properties = SimpleNamespace(name=name.encode() + b"\0", major=major, minor=minor)
        self.cudaGetDeviceCount = lambda: (error, None if error else 1)
        self.cudaGetDevice = lambda: (0, 0)
        self.cudaGetDeviceProperties = lambda device: (0, properties)
        self.cudaDriverGetVersion = lambda: (0, 13000)
        self.cudaGetErrorString = lambda error: (0, b"out of memory" if error == 2 else b"some error")
        self.cudaMalloc = self.cudaMallocHost = self._allocated
        self.cudaFree = self.cudaFreeHost = self._freed

    def cudaStreamCreate(self) -> tuple[int, int]:  # noqa: N802
        self.streams.add(len(self.streams) + 1)
        return 0, len(self.streams)

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:  # noqa: N802
        self.streams.remove(stream)
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        assert stream in self.streams
        return (0,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:  # noqa: N802
        assert stream in self.streams
        assert size <= len(self.live[to])
        assert size <= len(self.live[source])
        ctypes.memmove(to, source, size)
        return (0,)

    def _allocated(self, size: int) -> tuple[int, int | None]:
        if self.full:
            return 2, None
        memory = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(memory)
        self.live[address] = memory
        return 0, address

    def _freed(self, address: int) -> tuple[int]:
        del self.live[address]
        return (0,)


def install(monkeypatch: Any, package: FakeTensorRt, cuda: FakeCuda) -> None:
    """Let imports find the stand-ins."""
    monkeypatch.setitem(sys.modules, "tensorrt", package)
    parents = {"cuda": ModuleType("cuda"), "cuda.bindings": ModuleType("cuda.bindings")}
    parents["cuda.bindings"].runtime = cuda  # type: ignore[attr-defined]
    for name, module in parents.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
