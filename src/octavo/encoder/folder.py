"""Reading and writing Hugging Face model folders: `config.json`, `model.safetensors`, `tokenizer.json`.

Refuses pickled weights, remote code and adapters by name. Knows heads by their shape; what a folder says about its
task is handed to the tasks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavo.encoder.config import EncoderConfig, config_from_hf
from octavo.encoder.hub import folder_of
from octavo.encoder.model import EncoderWithHead
from octavo.encoder.names import NameMap, Names, names_for, pooler_of
from octavo.errors import InputError, ModelError
from octavo.tasks.base import FolderFacts, Head, Task
from octavo.types import Json

_PICKLED = ("pytorch_model.bin", "model.pt", "model.ckpt", "tf_model.h5")
_CASING_FILE = "tokenizer_config.json"
_TASK_FILES = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", _CASING_FILE)
# Keys of `config.json` that speak of a head; a model with another head must not inherit them.
_OF_THE_OLD_HEAD = (
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "sentence_transformers",
    "sbert_ce_default_activation_function",
    "torch_dtype",
)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder: where it is, its configuration, its tensors by their original names, and its JSON files.

    Attributes:
        path: where `config.json`, the weights and the tokenizer are.
        files: the other JSON files by path, such as `modules.json`; what they mean is up to the tasks.
    """

    path: Path
    hf_config: Json
    config: EncoderConfig
    tensors: dict[str, Tensor]
    files: dict[str, Any]

    @property
    def facts(self) -> FolderFacts:
        """What the folder says about its task."""
        return FolderFacts(self.hf_config, self.files, str(self.path))


def read_folder(path: Path) -> ModelFolder:
    """Read and check a model folder, as `transformers` or `sentence-transformers` write it, or a hub id's snapshot.

    Raises:
        ModelError: not a folder, a file missing or broken, another family, pickled weights, an adapter.
    """
    root = folder_of(path)
    if (root / "adapter_config.json").exists():
        raise ModelError(f"{root} holds a LoRA adapter. Merge it into its base model first (merge_and_unload).")
    files = {name: json_from_file(root / name) for name in _TASK_FILES if (root / name).is_file()}
    paths = _module_paths(files, root)
    files |= {
        f"{path}/config.json": json_from_file(root / path / "config.json")
        for path in paths
        if path and (root / path / "config.json").is_file()
    }
    at = root / (paths[0] if paths else "")
    if at != root and (at / _CASING_FILE).is_file():
        files[_CASING_FILE] = json_from_file(at / _CASING_FILE)
    if not (at / "config.json").is_file():
        raise ModelError(f"{at} is not a model: it has no config.json.")
    hf_config = json_from_file(at / "config.json")
    if not isinstance(hf_config, dict):
        raise ModelError(f"{at / 'config.json'} must hold a JSON object, not {type(hf_config).__name__}.")
    config = config_from_hf(hf_config, str(at / "config.json"))
    if not (at / "tokenizer.json").is_file():
        raise ModelError(
            f"{at} has no tokenizer.json. Make one with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
        )
    return ModelFolder(at, hf_config, config, _read_tensors(at), files)


def model_from_folder(folder: ModelFolder, head: Head) -> EncoderWithHead:
    """Build a fine-tuned model from its folder, in evaluation mode.

    Raises:
        ModelError: tensors are missing, have the wrong shape, or there is no such head.
    """
    names = names_for(folder.config, head)
    _check_architecture(folder, names, head)
    if head.outputs is not None and f"{names.head['head.output']}.weight" not in folder.tensors:
        raise ModelError(
            f"{folder.path} has no head ({names.head['head.output']}.weight). "
            "Fine-tune it first: octavo finetune --help."
        )
    model = EncoderWithHead(folder.config, head)
    model.load_state_dict(_state(folder, model, names, names.encoder | names.head))
    return model.eval()


def model_from_encoder(folder: ModelFolder, head: Head, seed: int) -> EncoderWithHead:
    """Build a model with the folder's encoder and a new head, its weights drawn from N(0, 0.02²).

    A pooler that was trained with the encoder is kept as the head's dense layer.
    """
    names = names_for(folder.config, head)
    model = EncoderWithHead(folder.config, head)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
        else:
            torch.nn.init.zeros_(parameter)
    wanted = dict(names.encoder)
    pooler = pooler_of(folder.config)
    if head.dense and _find(folder, names, pooler + ".weight") is not None:
        wanted["head.dense"] = pooler
    model.load_state_dict(_state(folder, model, names, wanted), strict=False)
    return model.eval()


def save_model(model: EncoderWithHead, task: Task, template: ModelFolder, path: Path) -> None:
    """Write a folder that `transformers` (or `sentence-transformers`) loads as a model of the same family and task.

    Configuration and tokenizer come from `template`; the folder appears whole or not at all.
    """
    names = names_for(template.config, task.head)
    tensors: dict[str, Tensor] = {}
    state = model.state_dict()
    alone = task.head.outputs is None
    for ours, theirs in (names.encoder | names.head).items():
        for suffix in (".weight", ".bias"):
            if (tensor := state.get(ours + suffix)) is None:
                continue
            targets = (theirs,) if isinstance(theirs, str) else theirs
            parts = tensor.chunk(len(targets))
            for name, part in zip(targets, parts, strict=True):
                tensors[(name.removeprefix(names.prefix) if alone else name) + suffix] = part.contiguous()
    facts = task.folder_facts()
    kept = {key: value for key, value in template.hf_config.items() if key not in _OF_THE_OLD_HEAD}
    hf_config = {
        **kept,
        "architectures": [names.architecture],
        "dtype": "float32",  # whatever the template was stored in; transformers casts what it loads to this
        **facts.config,
    }
    draft = _draft_of(path)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
        for name, content in {"config.json": hf_config, **facts.files}.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            if (template.path / name).is_file():
                shutil.copyfile(template.path / name, draft / name)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    draft.replace(path)


def check_can_be_written(path: Path) -> None:
    """Raise InputError where `save_model` could write no folder: better known before a model is trained for it."""
    draft = _draft_of(path)
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        draft.rmdir()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}). Choose another --out.") from error


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def json_from_file(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ModelError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}.") from None


def _module_paths(files: Mapping[str, Any], root: Path) -> list[str]:
    """Return where `sentence-transformers` keeps its modules, the encoder first; "" is the top of the folder."""
    modules = files.get("modules.json")
    paths = [one.get("path", "") for one in modules if isinstance(one, dict)] if isinstance(modules, list) else []
    for path in paths:
        if not isinstance(path, str) or Path(path).is_absolute() or ".." in Path(path).parts:
            raise ModelError(f"{root / 'modules.json'}: the path {path!r} leads out of the folder.")
    return paths


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


def _check_architecture(folder: ModelFolder, names: NameMap, head: Head) -> None:
    """Refuse a model with another head by the class that its configuration names."""
    if head.outputs is None:
        return  # an embedding needs the encoder alone, whatever head it was trained with
    architectures = folder.hf_config.get("architectures")
    for name in architectures if isinstance(architectures, list) else []:
        if isinstance(name, str) and "For" in name and name != names.architecture:
            raise ModelError(
                f"{folder.path} holds a {name}. The task needs a {names.architecture}: "
                "bring another folder, or fine-tune this encoder (octavo finetune --help)."
            )


def _find(folder: ModelFolder, names: NameMap, name: str) -> Tensor | None:
    """Look a tensor up by its name in a fine-tuned checkpoint, or in an encoder saved alone."""
    found = folder.tensors.get(name)
    return found if found is not None else folder.tensors.get(name.removeprefix(names.prefix))


def _state(folder: ModelFolder, model: EncoderWithHead, names: NameMap, wanted: Names) -> dict[str, Tensor]:
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
