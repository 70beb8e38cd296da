"""How each family names its tensors in a Hugging Face checkpoint, against our names. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.encoder.config import EncoderConfig, Family
from octavo.tasks.base import Head

# Our module name → theirs. A tuple means that ours is theirs joined along the outputs (Q, K and V).
Names = dict[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class NameMap:
    """Names as a fine-tuned checkpoint writes them; an encoder saved alone drops `prefix`."""

    architecture: str
    prefix: str
    encoder: Names
    head: Names


_PASCAL = {
    Family.BERT: "Bert",
    Family.ROBERTA: "Roberta",
    Family.XLM_ROBERTA: "XLMRoberta",
    Family.DISTILBERT: "DistilBert",
}


def names_for(config: EncoderConfig, head: Head) -> NameMap:
    """Return the names of a checkpoint with this head."""
    distil = config.family is Family.DISTILBERT
    prefix = {Family.BERT: "bert.", Family.DISTILBERT: "distilbert."}.get(config.family, "roberta.")
    encoder = (
        _encoder_names(prefix, config, "transformer.layer", _DISTILBERT_LAYER)
        if distil
        else _encoder_names(prefix, config, "encoder.layer", _BERT_LAYER)
    )
    if head.outputs is None:
        kind, names = "Model", Names()
    elif head.dense:
        kind, names = "ForSequenceClassification", _sequence_head(config.family)
    else:
        kind, names = "ForTokenClassification", Names({"head.output": "classifier"})
    return NameMap(_PASCAL[config.family] + kind, prefix, encoder, names)


def pooler_of(config: EncoderConfig) -> str:
    """Return the name of the dense layer that may have been trained with an encoder alone."""
    names = _sequence_head(config.family)["head.dense"]
    assert isinstance(names, str)
    return names


def _sequence_head(family: Family) -> Names:
    if family is Family.DISTILBERT:
        return {"head.dense": "pre_classifier", "head.output": "classifier"}
    if family is Family.BERT:
        return {"head.dense": "bert.pooler.dense", "head.output": "classifier"}
    return {"head.dense": "classifier.dense", "head.output": "classifier.out_proj"}


_BERT_LAYER: Names = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn1": "intermediate.dense",
    "ffn2": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
_DISTILBERT_LAYER: Names = {
    "qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention_output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "ffn1": "ffn.lin1",
    "ffn2": "ffn.lin2",
    "ffn_norm": "output_layer_norm",
}


def _encoder_names(prefix: str, config: EncoderConfig, layers: str, layer: Names) -> Names:
    names: Names = {
        "encoder.embeddings.words": prefix + "embeddings.word_embeddings",
        "encoder.embeddings.positions": prefix + "embeddings.position_embeddings",
        "encoder.embeddings.norm": prefix + "embeddings.LayerNorm",
    }
    if config.type_vocabulary_size:
        names["encoder.embeddings.segments"] = prefix + "embeddings.token_type_embeddings"
    for i in range(config.layers):
        at = f"{prefix}{layers}.{i}."
        for ours, theirs in layer.items():
            full = at + theirs if isinstance(theirs, str) else tuple(at + name for name in theirs)
            names[f"encoder.layers.{i}.{ours}"] = full
    return names
