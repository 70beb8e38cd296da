"""TensorRT plans of a release, built for a GPU that need not be here, and what they prove about its graph.

Nothing is run on a GPU, and the release is never changed. Where there is a GPU, loading the release on the engine
`tensorrt` builds its plan and keeps it in the cache.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from octavo.engines.plan_layers import PlanStructure, layers_from_log, structure_from_layers
from octavo.engines.tensorrt_plan import RTX, build_plan, profiles_from_shapes, tensorrt_package
from octavo.errors import EngineError, InputError
from octavo.export.fp16 import Overflow, fp16_overflow, fp16_twin
from octavo.progress import Progress, Silent
from octavo.recipe import TensorRt
from octavo.store.contents import Golden, ReleaseConfig, content_from_bytes, input_from_json
from octavo.store.release import Release
from octavo.tasks.registry import task_from_settings
from octavo.text.layout import Positions, layout_from_batch
from octavo.text.tokenizer import Tokenizer

_TARGET = re.compile(r"sm_?(\d{2,3})", re.IGNORECASE)
_ROWS_PER_CALL = 8


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan of a release, and what can be said of it without a GPU.

    Attributes:
        target: the compute capability that it is for, such as `sm75`.
        builder: package and version that built it.
        content: the plan's bytes; empty where TensorRT refused the graph.
        structure: its products and attentions, and what keeps them from INT8 and from being fused.
        overflow: channels that left the fp16 range for the release's golden inputs.
        refused: what TensorRT said where it refused the graph.
    """

    target: str
    builder: str
    content: bytes
    structure: PlanStructure
    overflow: list[Overflow]
    refused: str = ""

    @property
    def is_verified(self) -> bool:
        """Whether everything is of the kind and type that it should be: structure verified, and no more than that."""
        return not (self.refused or self.structure.blocked or self.overflow)


def build_release_plan(
    release: Release, target: str, *, options: TensorRt | None = None, progress: Progress | None = None
) -> BuiltPlan:
    """Build a plan of a release with `tensorrt_rtx`, which needs no GPU, and read what became of the graph.

    Args:
        release: an open release.
        target: `sm75` (T4, RTX 20), `sm80` (A100), `sm86`, `sm89`, `sm120` or `sm121`.
        options: how plans are built.
        progress: where to report.

    Raises:
        InputError: `target` is no compute capability that can be built for.
        EngineError: `tensorrt_rtx` is not installed, or refuses the graph for a reason that no node of it explains.
    """
    import onnx

    capability = capability_from_target(target)
    package = tensorrt_package(RTX)
    options = options or TensorRt()
    config = content_from_bytes(release.read("config.json"), ReleaseConfig, f"{release.folder}/config.json")
    with (progress or Silent()).step("build the plan", 3) as bar:
        canonical = onnx.load_model_from_string(release.variant("canonical"))
        overflow = _overflow(release, config, canonical)
        bar.advance(1, "golden inputs stay in the range of fp16" if not overflow else "golden inputs overflow fp16")
        twin = fp16_twin(canonical)
        bar.advance()
        profiles = profiles_from_shapes(config.shapes, config.max_length, options.profiles)
        builder = f"tensorrt-rtx {package.__version__}"
        target = f"sm{capability}"
        try:
            plan = build_plan(
                package, twin.SerializeToString(deterministic=True), profiles, options, capability=capability
            )
        except EngineError as error:
            structure = structure_from_layers([], twin)
            if not structure.blocked:
                raise
            return BuiltPlan(target, builder, b"", structure, overflow, str(error))
        bar.advance()
    structure = structure_from_layers(layers_from_log(plan.log), twin)
    return BuiltPlan(target, builder, plan.content, structure, overflow)


def capability_from_target(target: str) -> int:
    """Return a compute capability as a number: 75 for `sm75`.

    Raises:
        InputError: it is written otherwise.
    """
    found = _TARGET.fullmatch(target)
    if found is None:
        raise InputError(f"{target!r} is no target. Name a compute capability: sm75 for a T4, sm80 for an A100.")
    return int(found[1])


def _overflow(release: Release, config: ReleaseConfig, canonical: object) -> list[Overflow]:
    """Run the golden inputs, which are rows of real data, and look for what fp16 cannot hold."""
    golden = content_from_bytes(release.read("golden.json"), Golden, f"{release.folder}/golden.json")
    task = task_from_settings(config.task, config.settings, f"{release.folder}/config.json")
    tokenizer = Tokenizer.from_bytes(
        release.read("tokenizer.json"),
        max_length=config.max_length,
        source=f"{release.folder}/tokenizer.json",
        reads_last=task.head.reads_last,
    )
    batch = tokenizer.encode([input_from_json(one) for one in golden.inputs])
    positions = Positions(config.position_offset, config.segment_stride)
    return fp16_overflow(canonical, (layout_from_batch(part, positions) for part in batch.split(_ROWS_PER_CALL)))
