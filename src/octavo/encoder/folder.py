"""Reading and writing Hugging Face model folders: `config.json`, `model.safetensors`, `tokenizer.json`.

Refuses pickled weights, remote code and adapters by name. Downloads nothing.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavo.encoder.config import EncoderConfig, config_from_hf
from octavo.encoder.model import SequenceClassifier
from octavo.encoder.names import NameMap, Names, names_for
from octavo.errors import ModelError
from octavo.tasks.classify import Classify
from octavo.types import Json

_PICKLED = ("pytorch_model.bin", "model.pt", "model.ckpt", "tf_model.h5")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder: where it is, its configuration, and its tensors by their original names."""

    path: Path
    hf_config: Json
    config: EncoderConfig
    tensors: dict[str, Tensor]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the head's outputs; `transformers` leaves its two default names unsaid."""
        if "id2label" not in self.hf_config:
            return "LABEL_0", "LABEL_1"
        return Classify.from_config(self.hf_config).labels


def read_folder(path: Path) -> ModelFolder:
    """Read and check a model folder.

    Raises:
        ModelError: not a folder, a file missing or broken, another family, pickled weights, an adapter.
    """
    if not path.is_dir():
        raise ModelError(f"{path} is not a folder. A model is a folder with config.json and model.safetensors.")
    if (path / "adapter_config.json").exists():
        raise ModelError(f"{path} holds a LoRA adapter. Merge it into its base model first (merge_and_unload).")
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} is not a model: it has no config.json.")
    hf_config = _read_json(path / "config.json")
    config = config_from_hf(hf_config, str(path / "config.json"))
    if not (path / "tokenizer.json").is_file():
        raise ModelError(
            f"{path} has no tokenizer.json. Make one with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
        )
    return ModelFolder(path, hf_config, config, _read_tensors(path))


def classifier_from_folder(folder: ModelFolder) -> SequenceClassifier:
    """Build a fine-tuned classifier from its folder, in evaluation mode.

    Raises:
        ModelError: tensors are missing, have the wrong shape, or there is no classification head.
    """
    names = names_for(folder.config)
    _check_task(folder, names)
    if f"{names.head['head.output']}.weight" not in folder.tensors:
        raise ModelError(
            f"{folder.path} has no classification head ({names.head['head.output']}.weight). "
            "Fine-tune it first: octavo finetune --help."
        )
    model = SequenceClassifier(folder.config, len(folder.labels))
    model.load_state_dict(_state(folder, model, names, names.encoder | names.head))
    return model.eval()


def classifier_from_encoder(folder: ModelFolder, outputs: int, seed: int) -> SequenceClassifier:
    """Build a classifier with the folder's encoder and a new head, its weights drawn from N(0, 0.02²).

    A pooler that was trained with the encoder is kept as the head's dense layer.
    """
    names = names_for(folder.config)
    model = SequenceClassifier(folder.config, outputs)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
        else:
            torch.nn.init.zeros_(parameter)
    wanted = dict(names.encoder)
    pooler = names.head["head.dense"]
    if isinstance(pooler, str) and _find(folder, names, pooler + ".weight") is not None:
        wanted["head.dense"] = pooler
    model.load_state_dict(_state(folder, model, names, wanted), strict=False)
    return model.eval()


def save_classifier(model: SequenceClassifier, labels: tuple[str, ...], template: ModelFolder, path: Path) -> None:
    """Write a folder that `transformers` loads as a sequence classifier of the same family.

    Configuration and tokenizer come from `template`; the folder appears whole or not at all.
    """
    names = names_for(template.config)
    tensors: dict[str, Tensor] = {}
    state = model.state_dict()
    for ours, theirs in (names.encoder | names.head).items():
        for suffix in (".weight", ".bias"):
            if (tensor := state.get(ours + suffix)) is None:
                continue
            targets = (theirs,) if isinstance(theirs, str) else theirs
            parts = tensor.chunk(len(targets))
            tensors |= {name + suffix: part.contiguous() for name, part in zip(targets, parts, strict=True)}
    hf_config = {
        **template.hf_config,
        "architectures": [names.architecture],
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "single_label_classification",
        "dtype": "float32",  # whatever the template was stored in; transformers casts what it loads to this
    }
    hf_config.pop("torch_dtype", None)
    draft = path.with_name(f".{path.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
        (draft / "config.json").write_text(json.dumps(hf_config, indent=2, ensure_ascii=False) + "\n", "utf-8")
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            if (template.path / name).is_file():
                shutil.copyfile(template.path / name, draft / name)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    draft.replace(path)


def _read_json(path: Path) -> Json:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(value).__name__}.")
    return value


def _read_tensors(path: Path) -> dict[str, Tensor]:
    file = path / "model.safetensors"
    if not file.is_file():
        pickled = [name for name in _PICKLED if (path / name).exists()]
        if pickled:
            raise ModelError(
                f"{path} has its weights in {pickled[0]}, a pickle, which can run code when it is read. "
                "Convert them: model.save_pretrained(folder, safe_serialization=True)."
            )
        raise ModelError(f"{path} has no model.safetensors (weights in several shards are not supported).")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}.") from None
    # Checkpoints converted from TensorFlow name LayerNorm's weights gamma and beta.
    renamed = {
        k.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): v
        for k, v in tensors.items()
    }
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in renamed.items()}


def _check_task(folder: ModelFolder, names: NameMap) -> None:
    """Refuse a model of another task by the class that its configuration names."""
    architectures = folder.hf_config.get("architectures")
    for name in architectures if isinstance(architectures, list) else []:
        if isinstance(name, str) and "For" in name and name != names.architecture:
            raise ModelError(
                f"{folder.path} holds a {name}. Task 'classify' needs a {names.architecture}: "
                "bring another folder, or fine-tune this encoder (octavo finetune --help)."
            )


def _find(folder: ModelFolder, names: NameMap, name: str) -> Tensor | None:
    """Look a tensor up by its name in a fine-tuned checkpoint, or in an encoder saved alone."""
    found = folder.tensors.get(name)
    return found if found is not None else folder.tensors.get(name.removeprefix(names.prefix))


def _state(folder: ModelFolder, model: SequenceClassifier, names: NameMap, wanted: Names) -> dict[str, Tensor]:
    """Collect our tensors out of theirs, joining Q, K and V, and check every shape."""
    file = folder.path / "model.safetensors"
    state: dict[str, Tensor] = {}
    for ours, expected in model.state_dict().items():
        module, _, suffix = ours.rpartition(".")
        if module not in wanted:
            continue
        theirs = wanted[module]
        joined = (theirs,) if isinstance(theirs, str) else theirs
        shape = (len(expected) // len(joined), *expected.shape[1:])
        parts = []
        for name in joined:
            part = _find(folder, names, f"{name}.{suffix}")
            if part is None:
                raise ModelError(f"{file} has no tensor {name}.{suffix}, which a {folder.config.family} model needs.")
            if part.shape != shape:
                raise ModelError(
                    f"{file}: {name}.{suffix} has shape {tuple(part.shape)}; config.json asks for {shape}."
                )
            parts.append(part)
        state[ours] = torch.cat(parts)
    return state
