"""What TensorRT made of a graph, read off the layer list at the end of its log: the proof that INT8 is INT8.

Nothing is run. A plan that passes is *structure verified*: its kernels are of the right kinds and types. How fast they
are, and whether their numbers are right, only a GPU tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import onnx

from octavo.errors import EngineError
from octavo.export.blockers import Blocker, attentions, blockers, products

_LAYER = re.compile(r"Name: (?P<name>.+?), LayerType: (?P<type>\w+), Inputs: (?P<rest>.*)", re.DOTALL)
_SECTION = re.compile(r", (Constants|Outputs|TacticName|Metadata): ")
_TYPE = re.compile(r"Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_PROFILE = re.compile(r"_myl(\d+)_\d+$")  # TensorRT compiles the network once for each profile
_ENCODER_LAYER = re.compile(r"layers\.(\d+)\.")


class Kind(StrEnum):
    """What a layer of a plan is for."""

    GEMM = "gemm"
    ATTENTION = "attention"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PlanLayer:
    """One kernel of a plan.

    Attributes:
        name: TensorRT's.
        kind: what it is for.
        profile: the optimization profile that it was compiled for.
        inputs: types of the tensors that it reads, such as `Int8` and `Half`.
        constants: types of the weights and constants that it holds.
        outputs: types of the tensors that it writes.
        nodes: the graph's nodes that went into it.
    """

    name: str
    kind: Kind
    profile: int
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def is_int8(self) -> bool:
        """Whether all that it reads is int8."""
        return bool(self.inputs) and set(self.inputs) == {"Int8"}


@dataclass(frozen=True, slots=True)
class PlanStructure:
    """A plan's products and attentions. With several profiles, what holds in each of them.

    Attributes:
        layers: the kernels, in order; empty where TensorRT refused the graph.
        encoder_layers: how many the model has.
        int8_gemms: number of products of int8 levels.
        fused_mha: number of attentions that are one kernel.
        float_gemms: weights (or nodes, for products of two activations) that are multiplied in float.
        blocked: what keeps products from INT8 and attentions from being fused.
    """

    layers: list[PlanLayer]
    encoder_layers: int
    int8_gemms: int
    fused_mha: int
    float_gemms: list[str]
    blocked: list[Blocker]


def layers_from_log(log: Iterable[str]) -> list[PlanLayer]:
    """Read the layer list of a builder's log, made with detailed profiling verbosity.

    Raises:
        EngineError: there is no such list, or it is written in a form that is not known.
    """
    lines = iter(log)
    listed = []
    for line in lines:
        if line.startswith("Layers:"):
            break
    for line in lines:
        if line.startswith("I/O Tensors"):
            break
        if line.startswith("Name: "):
            listed.append(_layer(line))
    if not listed:
        raise EngineError("TensorRT's log holds no list of layers: this version writes it in another form.")
    return listed


def _layer(line: str) -> PlanLayer:
    found = _LAYER.match(line)
    if found is None:
        raise EngineError(f"A layer that TensorRT listed cannot be read: {line[:80]!r}.")
    parts = _SECTION.split(found["rest"])
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    profile = _PROFILE.search(found["name"])
    return PlanLayer(
        name=found["name"],
        kind=_kind(found["name"], found["type"]),
        profile=int(profile[1]) if profile else 0,
        inputs=tuple(_TYPE.findall(parts[0])),
        constants=tuple(_TYPE.findall(sections.get("Constants", ""))),
        outputs=tuple(_TYPE.findall(sections.get("Outputs", ""))),
        nodes=tuple(_NODE.findall(line)),
    )


def _kind(name: str, layer_type: str) -> Kind:
    if "_mha_" in name:
        return Kind.ATTENTION
    is_gemm = layer_type == "gemm" or (layer_type == "runtime_fusion" and "Fc" in name) or name.startswith("_gem")
    return Kind.GEMM if is_gemm else Kind.OTHER


def structure_from_layers(layers: Sequence[PlanLayer], model: onnx.ModelProto) -> PlanStructure:
    """Hold a plan against the graph that it was built from.

    Args:
        layers: of all profiles.
        model: the very graph that was built, so that names of nodes agree.
    """
    blocked = {(one.node, one.blocks): one for one in blockers(model)}
    explained = {one.blocks for one in blocked.values()}
    counted = []
    for profile in sorted({layer.profile for layer in layers}):
        own = [layer for layer in layers if layer.profile == profile]
        counted.append(_of_profile(own, model))
        for one in counted[-1].blocked:
            if one.blocks not in explained:
                blocked.setdefault((one.node, one.blocks), one)
    return PlanStructure(
        layers=list(layers),
        encoder_layers=encoder_layers(model),
        int8_gemms=min((one.int8_gemms for one in counted), default=0),
        fused_mha=min((one.fused_mha for one in counted), default=0),
        float_gemms=sorted({name for one in counted for name in one.float_gemms}),
        blocked=list(blocked.values()),
    )


def _of_profile(layers: Sequence[PlanLayer], model: onnx.ModelProto) -> PlanStructure:
    gemms = [layer for layer in layers if layer.kind is Kind.GEMM]
    fused = [layer for layer in layers if layer.kind is Kind.ATTENTION]
    known = {one.node: one for one in products(model)}
    int8, floats = 0, []
    for layer in gemms:
        computed = [node for node in layer.nodes if node in known]
        if layer.is_int8:
            int8 += 1
        else:
            floats += [known[node].weight for node in computed] or [next(iter(layer.nodes), layer.name)]
    blocked = [
        Blocker(one.node, one.node, f"TensorRT multiplies {one.weight} in float, for a reason of its own")
        for one in known.values()
        if one.is_quantized and not any(layer.is_int8 and one.node in layer.nodes for layer in gemms)
    ]
    blocked += [
        Blocker(node, node, "TensorRT does not fuse this attention, for a reason of its own")
        for node in attentions(model)
        if not any(node in layer.nodes for layer in fused)
    ]
    return PlanStructure([], 0, int8, len(fused), floats, blocked)


def encoder_layers(model: onnx.ModelProto) -> int:
    """Return how many layers the encoder has, by the names of its weights."""
    found = [_ENCODER_LAYER.search(one.weight) for one in products(model)]
    return 1 + max((int(match[1]) for match in found if match), default=-1)
