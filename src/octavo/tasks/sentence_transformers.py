"""The JSON files of sentence-transformers folders, read without the library: modules, pooling, prompts, activation.

Knows the spellings of today's versions and of older ones. Never imports a name that a file gives: known names are
compared, others refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.errors import ModelError
from octavo.tasks.base import FolderFacts, Reads
from octavo.types import Json

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
TRANSFORMER = "sentence_bert_config.json"

# How a pooling is spelled: today's word, and the flag of versions before 5.
_POOLINGS = {"mean": Reads.MEAN, "cls": Reads.FIRST, "lasttoken": Reads.LAST}
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_SIMILARITIES = {None: "cosine", "cosine": "cosine", "dot": "dot", "dot_product": "dot"}
_ACTIVATIONS = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Identity": "identity",
    "torch.nn.Sigmoid": "sigmoid",
    "torch.nn.Identity": "identity",
    "Sigmoid": "sigmoid",
    "Identity": "identity",
}
_ACTIVATION_NAMES = {
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}
_CROSS_ENCODER_KEYS = ("sentence_transformers", "sbert_ce_default_activation_function")


def model_type(facts: FolderFacts) -> str | None:
    """Return what the folder calls itself, such as `SentenceTransformer`; None where it does not say."""
    name = _mapping(facts.files.get(SETTINGS)).get("model_type")
    return name if isinstance(name, str) else None


def is_cross_encoder(facts: FolderFacts) -> bool:
    """Return whether the folder says so: `CrossEncoder` by name, or a key that only cross-encoders have."""
    return model_type(facts) == "CrossEncoder" or any(facts.config.get(key) is not None for key in _CROSS_ENCODER_KEYS)


def module_kinds(facts: FolderFacts) -> list[str]:
    """Return the class names of the folder's modules, in order; empty without a `modules.json`."""
    modules = facts.files.get(MODULES)
    return [_kind(module) for module in modules] if isinstance(modules, list) else []


def pooling_from_facts(facts: FolderFacts) -> Reads:
    """Return the pooling that the folder's Pooling module does.

    Raises:
        ModelError: its configuration is missing, or is none of mean, cls and lasttoken.
    """
    modules = facts.files[MODULES]
    path = next(str(module.get("path", "")) for module in modules if _kind(module) == "Pooling")
    file = f"{path}/config.json"
    config = facts.files.get(file)
    if not isinstance(config, dict):
        raise ModelError(f"{facts.source}: {MODULES} names a Pooling module, and there is no {file}. Add it.")
    if config.get("include_prompt", True) is not True:
        raise ModelError(f"{facts.source}/{file}: include_prompt is false; Octavo pools the prompt's tokens too.")
    modes = _pooling_modes(config)
    if len(modes) != 1 or not isinstance(modes[0], str) or modes[0] not in _POOLINGS:
        raise ModelError(
            f"{facts.source}/{file}: the pooling '{' + '.join(map(str, modes))}' is not supported. "
            f"Supported: {', '.join(_POOLINGS)}."
        )
    return _POOLINGS[modes[0]]


def prompts_from_facts(facts: FolderFacts) -> dict[str, str]:
    """Return the texts that go before queries and documents, under `query` and `document`; empty ones left out.

    Documents take the first prompt that is not empty of `document`, `passage` and `corpus`. Without prompts for
    either, both take the default one where the folder names one.

    Raises:
        ModelError: prompts that are no texts, or a default prompt that there is not.
    """
    settings = _mapping(facts.files.get(SETTINGS))
    given = settings.get("prompts") or {}
    if not isinstance(given, dict) or not all(isinstance(text, str | None) for text in given.values()):
        raise ModelError(f'{facts.source}/{SETTINGS}: prompts must be texts by name, such as {{"query": "query: "}}.')
    default = settings.get("default_prompt_name")
    if default is not None and default not in list(given):  # a list compares; JSON values need not be hashable
        raise ModelError(f"{facts.source}/{SETTINGS}: default_prompt_name is {default!r}, which is no prompt there.")
    document = next((given[name] for name in _DOCUMENT_PROMPTS if given.get(name)), None)
    prompts = {"query": given.get("query"), "document": document}
    if default is not None and not any(prompts.values()):
        prompts = dict.fromkeys(prompts, given[default])
    return {name: text for name, text in prompts.items() if text}


def similarity_from_facts(facts: FolderFacts) -> str:
    """Return `cosine` (the default) or `dot`. Raises ModelError for another one."""
    name = _mapping(facts.files.get(SETTINGS)).get("similarity_fn_name")
    if not isinstance(name, str | None) or name not in _SIMILARITIES:
        raise ModelError(f"{facts.source}/{SETTINGS}: the similarity {name!r} is not supported: only cosine and dot.")
    return _SIMILARITIES[name]


def activation_from_facts(facts: FolderFacts) -> str:
    """Return a cross-encoder's activation, `sigmoid` (the default for one label) or `identity`.

    Raises:
        ModelError: another activation.
    """
    newest = _mapping(facts.files.get(SETTINGS)).get("activation_fn")
    newer = _mapping(facts.config.get("sentence_transformers")).get("activation_fn")
    old = facts.config.get("sbert_ce_default_activation_function")
    name = next((name for name in (newest, newer, old) if name is not None), "Sigmoid")
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise ModelError(f"{facts.source}: the activation {name!r} is not supported: only Sigmoid and Identity.")
    return _ACTIVATIONS[name]


def check_casing(facts: FolderFacts) -> None:
    """Raise ModelError where texts are lower-cased outside `tokenizer.json`, which is all that Octavo goes by."""
    lowers = _mapping(facts.files.get(TRANSFORMER)).get("do_lower_case", False)
    if lowers and not _mapping(facts.files.get("tokenizer_config.json")).get("do_lower_case", False):
        raise ModelError(
            f"{facts.source}/{TRANSFORMER}: do_lower_case is true. If tokenizer.json lower-cases as well, set it to "
            "false; otherwise save the model again with sentence-transformers 5 or later."
        )


def embedder_files(
    pooling: Reads, dimensions: int, normalize: bool, prompts: Mapping[str, str], similarity: str
) -> Json:
    """Return the files, by path, with which sentence-transformers loads an encoder's folder as an embedder."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else "",
            "type": f"sentence_transformers.models.{kind}",  # the spelling that every version reads
        }
        for i, kind in enumerate(kinds)
    ]
    mode = next(mode for mode, reads in _POOLINGS.items() if reads is pooling)
    flags = {flag: other == mode for flag, other in _POOLING_FLAGS.items()}
    settings = {
        "model_type": "SentenceTransformer",
        "prompts": {name: prompts.get(name, "") for name in ("query", "document")},
        "default_prompt_name": None,
        "similarity_fn_name": similarity,
    }
    return {
        MODULES: modules,
        "1_Pooling/config.json": {"word_embedding_dimension": dimensions, **flags, "include_prompt": True},
        SETTINGS: settings,
    }


def activation_config(activation: str) -> Json:
    """Return the keys of `config.json` by which sentence-transformers knows a cross-encoder's activation."""
    return {"sentence_transformers": {"activation_fn": _ACTIVATION_NAMES[activation]}}


def _kind(module: Any) -> str:
    name = module.get("type") if isinstance(module, dict) else None
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def _pooling_modes(config: Json) -> list[Any]:
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        return mode if isinstance(mode, list) else [mode]
    return [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)] or ["mean"]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
