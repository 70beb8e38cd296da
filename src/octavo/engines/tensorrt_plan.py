"""From a graph to a TensorRT plan: shapes to profiles, a network, the build. Runs nothing.

The same code drives three packages. What differs between them is said here and nowhere else:

- `tensorrt` 10 builds weakly typed networks unless it is asked not to; 11 and `tensorrt_rtx` know strongly typed ones
  only, and 11 may drop the flag that asks. Types stand in the graph (`octavo.export.fp16`), so the flag is set where
  there is one.
- 10 and 11 build for the GPU that they find, and time kernels on it: they take a timing cache. `tensorrt_rtx` builds
  for a named compute capability, on a machine without a GPU, and leaves the kernels to the user's machine.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo.errors import EngineError, InputError, MissingExtraError
from octavo.recipe import TensorRt
from octavo.text.buckets import Shape, single_shapes

RTX = "tensorrt_rtx"

# The largest batch that one call runs; engines cut larger ones. The longest sequence may be alone in it.
MOST_TOKENS = 4096
MOST_SEQUENCES = 64

_VERSIONS = (10, 11)


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes that one set of kernels serves, each (tokens, batch, length): the least, the most, the usual one."""

    least: Shape
    usual: Shape
    most: Shape

    def holds(self, shape: Shape) -> bool:
        """Return whether a batch of this shape can run."""
        return all(low <= size <= high for low, size, high in zip(self.least, shape, self.most, strict=True))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build gave.

    Attributes:
        content: the plan's bytes.
        log: everything that the builder said, in order; its layer list is the last thing of it.
        timing_cache: kernel timings for the next build on this GPU; empty where none are taken.
    """

    content: bytes
    log: list[str]
    timing_cache: bytes


def tensorrt_package(name: str = "tensorrt") -> Any:
    """Import `tensorrt` or `tensorrt_rtx`.

    Raises:
        EngineError: it is not installed, of a version that this code does not know, or its libraries do not load.
    """
    try:
        package = importlib.import_module(name)
    except ModuleNotFoundError:
        package_name = name.replace("_", "-")
        raise EngineError(str(MissingExtraError(package_name, package_name))) from None
    except (ImportError, OSError) as error:  # installed, but its libraries or the driver's are not
        raise EngineError(f"{name} cannot be loaded: {error}. Its libraries and NVIDIA's driver must fit.") from None
    major = int(package.__version__.partition(".")[0])
    if name != RTX and major not in _VERSIONS:
        raise EngineError(
            f"TensorRT {package.__version__} is installed, and Octavo knows versions "
            f"{' and '.join(map(str, _VERSIONS))}. Install one: pip install 'tensorrt>=10,<12'."
        )
    return package


def profiles_from_shapes(shapes: Sequence[Shape], max_length: int, count: int) -> list[Profile]:
    """Return profiles that hold every shape, from single queries to the largest batch.

    Args:
        shapes: buckets of real traffic, the commonest first; may be empty.
        max_length: the longest sequence, in tokens.
        count: how many; one is for everything, else the first is for single sequences, the last for everything, and
            those between are for batches of up to 8 (of three), of up to 4 and 16 (of four).
    """
    length = single_shapes(max_length)[-1][2]
    most = [round(MOST_SEQUENCES ** (step / (count - 1))) for step in range(count)] if count > 1 else [MOST_SEQUENCES]
    profiles = []
    for sequences, fewer in zip(most, [0, *most], strict=False):
        tokens = max(MOST_TOKENS, length) if sequences == MOST_SEQUENCES else min(sequences * length, MOST_TOKENS)
        usual = next((shape for shape in shapes if fewer < shape[1] <= sequences and shape[2] <= length), None)
        profiles.append(Profile((1, 1, 1), usual or _query_shape(sequences, length), (tokens, sequences, length)))
    return profiles


def _query_shape(sequences: int, length: int) -> Shape:
    """Return what queries look like where nothing is known of the traffic: a dozen words each."""
    length = min(16, length)
    return sequences * length, sequences, length


def build_plan(
    package: Any,
    graph: bytes,
    profiles: Sequence[Profile],
    options: TensorRt,
    *,
    capability: int | None = None,
    timing_cache: bytes | None = None,
) -> Plan:
    """Build a plan.

    Args:
        package: `tensorrt_package()`.
        graph: ONNX bytes; for SM75 the fp16 twin, as its FP32 products are refused there.
        profiles: shapes to build for.
        options: how.
        capability: compute capability to build for, which `tensorrt_rtx` needs; None for the GPU that is here.
        timing_cache: from an earlier build on this GPU, empty for the first; None where nothing is timed.

    Raises:
        EngineError: TensorRT cannot parse or build the graph; its own words are in the message.
        InputError: this package builds for no such compute capability.
    """
    log = _log_of(package)
    builder = package.Builder(log)
    network = builder.create_network(_network_flags(package))
    parser = package.OnnxParser(network, log)
    if not parser.parse(graph):
        said = "; ".join(str(parser.get_error(place)) for place in range(parser.num_errors))
        raise EngineError(f"TensorRT {package.__version__} cannot build the engine: it does not take the graph: {said}")
    config = builder.create_builder_config()
    config.profiling_verbosity = package.ProfilingVerbosity.DETAILED  # so that the layer list has types in it
    config.builder_optimization_level = options.builder_optimization_level
    if options.workspace_mb:
        config.set_memory_pool_limit(package.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if capability is not None:
        _aim_at(package, config, capability)
    for profile in profiles:
        config.add_optimization_profile(_profile_of(builder, network, profile))
    cache = None if timing_cache is None else config.create_timing_cache(timing_cache)
    if cache is not None:
        config.set_timing_cache(cache, ignore_mismatch=False)
    content = builder.build_serialized_network(network, config)
    if content is None:
        raise EngineError(f"TensorRT {package.__version__} cannot build the engine: {_first_error(log)}")
    return Plan(bytes(content), log.lines, b"" if cache is None else bytes(cache.serialize()))


def _network_flags(package: Any) -> int:
    """Ask version 10 for a strongly typed network; later ones know no other."""
    flag = getattr(package.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _aim_at(package: Any, config: Any, capability: int) -> None:
    if not hasattr(config, "set_compute_capability"):
        return  # the GPU that is here is the only one that this package builds for
    known = {name.lower(): one for name, one in package.ComputeCapability.__members__.items() if name[-1].isdigit()}
    if f"sm{capability}" not in known:
        raise InputError(
            f"TensorRT-RTX {package.__version__} builds for {', '.join(known)}, and not for sm{capability}."
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[f"sm{capability}"], 0)


def _profile_of(builder: Any, network: Any, profile: Profile) -> Any:
    made = builder.create_optimization_profile()
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        names = [tensor.get_dimension_name(axis) for axis in range(len(tensor.shape))]
        made.set_shape(tensor.name, *(_sizes(names, shape) for shape in (profile.least, profile.usual, profile.most)))
    return made


def _sizes(names: Sequence[str], shape: Shape) -> tuple[int, ...]:
    """Return the sizes that an input's named dimensions have in a shape."""
    tokens, batch, length = shape
    # A sequence without special tokens has its first token read twice, so that there can be more reads than tokens.
    known = {"tokens": tokens, "batch": batch, "length": length, "reads": reads_in(shape)}
    return tuple(known[name] for name in names)


def reads_in(shape: Shape) -> int:
    """Return the most tokens that a head can read of a batch of this shape."""
    return shape[0] if shape == (1, 1, 1) else 2 * shape[0]


def _log_of(package: Any) -> Any:
    """Return a logger that keeps what it is told; TensorRT's own would print it."""

    class Log(package.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.extend(message.splitlines())
            if severity <= package.ILogger.ERROR:
                self.errors.append(message)

    return Log()


def _first_error(log: Any) -> str:
    return " ".join(log.errors[0].split()) if log.errors else "it gave no reason"
