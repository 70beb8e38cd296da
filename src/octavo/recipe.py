"""The recipe: everything that decides what `compress` makes, in one value. Read from TOML, or built in Python.

Defaults are meant to be kept; a recipe usually names a teacher, the data and a store, and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from octavo.errors import InputError
from octavo.types import Observer, Scheme

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
_AboveZero = Annotated[float, msgspec.Meta(gt=0)]


class DataFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rows: JSON lines with `text` and `label`.

    Attributes:
        train: rows to calibrate and to train on; may be left out where there are query logs.
        dev: rows that choose the observer, the epoch and between rungs.
        test: held-out rows that the certificate is decided on, and nothing else.
        unlabelled: query logs, one query a line (.txt) or JSON lines with `text`; optional.
    """

    train: Path | None = None
    dev: Path
    test: Path
    unlabelled: tuple[Path, ...] = ()


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Calibration.

    Attributes:
        schemes: how activations get their scales: `per-tensor` for every engine, `per-token` for the native one alone;
            both are tried where it serves.
        observers: which ways to choose clipping values are tried, for scales per tensor.
        calibration_rows: how many training rows are observed.
        smoothing: how much of the range of outlier channels moves into the weights: `search` finds it for each layer; a
            number from 0 (none) to 1 is SmoothQuant's, for all QKV and FFN1 inputs alike.
    """

    schemes: tuple[Scheme, ...] = tuple(Scheme)
    observers: tuple[Observer, ...] = tuple(Observer)
    calibration_rows: _Positive = 1024
    smoothing: _Fraction | Literal["search"] = "search"


class Distillation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Quantization-aware training under knowledge distillation.

    Attributes:
        epochs: passes over the training rows; 0 leaves the rungs out.
        schemes: for which kinds of activation scales a model is trained, of those that are tried.
        learning_rate: of the weights.
        scale_learning_rate: of the logarithms of the activation scales.
        batch_size: rows per step.
        temperature: softens teacher's and student's distributions.
        label_weight: share of the loss that comes from labels, where a row has one.
        patience: epochs without a better dev score after which training stops.
        control: also train the FP32 model for the same epochs, so that nobody mistakes more training for
            harmless quantization.
    """

    epochs: Annotated[int, msgspec.Meta(ge=0)] = 3
    schemes: tuple[Scheme, ...] = tuple(Scheme)
    learning_rate: _AboveZero = 1e-5
    scale_learning_rate: _AboveZero = 1e-3
    batch_size: _Positive = 32
    temperature: _AboveZero = 2.0
    label_weight: _Fraction = 0.0
    patience: _Positive = 2
    control: bool = True


class Certification(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The gate.

    Attributes:
        margin: the loss that still counts as none, as a fraction (0.005 is half a point).
        reason: why the margin is not the usual half point, for the report.
        timing_s: bound on the time that the latency measurement takes, in seconds.
    """

    margin: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.005
    reason: str = ""
    timing_s: _AboveZero = 40.0


class TensorRt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How TensorRT plans are built; nothing here changes what is computed.

    Attributes:
        profiles: optimization profiles: 1 for all shapes, 2 for single queries apart, more for sizes of batches apart.
        workspace_mb: most scratch memory of a kernel; 0 for all that the GPU has.
        builder_optimization_level: from 0, quick to build, to 5, which tries the most kernels.
    """

    profiles: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    workspace_mb: Annotated[int, msgspec.Meta(ge=0)] = 1024
    builder_optimization_level: Annotated[int, msgspec.Meta(ge=0, le=5)] = 3


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One compression.

    Attributes:
        teacher: folder of the fine-tuned model.
        data: the rows.
        store: where releases go.
        model: the model's name in the store; the teacher folder's name if empty.
        task: what the model does: classify, tag, embed or rank; empty for what the teacher's folder says.
        trim_vocabulary: drop the tokens that neither training rows nor query logs use.
        max_length: tokens after which a text is cut.
        seed: of everything that draws random numbers.
        half_precision: also certify and publish the teacher in bfloat16, where the CPU computes it. Off, as the same
            recipe would climb another ladder on another CPU, and as INT8 does not need the step.
    """

    teacher: Path
    data: DataFiles
    store: Path = Path("store")
    model: str = ""
    task: str = ""
    trim_vocabulary: bool = False
    max_length: _Positive = 128
    seed: int = 0
    half_precision: bool = False
    quantize: Quantization = Quantization()
    distill: Distillation = Distillation()
    certify: Certification = Certification()
    tensorrt: TensorRt = TensorRt()

    @property
    def model_name(self) -> str:
        """The model's name in the store."""
        return self.model or self.teacher.resolve().name


def read_recipe(path: Path) -> Recipe:
    """Read a recipe. Relative paths in it are meant from the recipe's folder.

    Raises:
        InputError: the file is missing, no TOML, or has a key or value that does not fit.
    """
    try:
        recipe = msgspec.toml.decode(path.read_bytes(), type=Recipe, dec_hook=_decoded)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}. See docs/recipe.md for every key.") from None
    return _from_folder(recipe, path.parent)


def _decoded(kind: type, value: Any) -> Any:
    """Make the types that TOML does not have."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def is_hub_id(path: Path) -> bool:
    """Return whether a path that does not exist could be the id of a model on the hub, such as `org/name`."""
    return not path.exists() and not path.is_absolute() and _HUB_ID.fullmatch(str(path)) is not None


def _from_folder(recipe: Recipe, folder: Path) -> Recipe:
    data = msgspec.structs.replace(
        recipe.data,
        train=folder / recipe.data.train if recipe.data.train else None,
        dev=folder / recipe.data.dev,
        test=folder / recipe.data.test,
        unlabelled=tuple(folder / path for path in recipe.data.unlabelled),
    )
    # A folder beside the recipe goes before a model of the same name on the hub.
    beside = folder / recipe.teacher
    teacher = recipe.teacher if is_hub_id(recipe.teacher) and not beside.exists() else beside
    return msgspec.structs.replace(recipe, teacher=teacher, store=folder / recipe.store, data=data)
