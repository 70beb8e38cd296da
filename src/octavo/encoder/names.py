"""How each family names its tensors in a Hugging Face checkpoint, against our names. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.encoder.config import EncoderConfig, Family

# Our module name → theirs. A tuple means that ours is theirs joined along the outputs (Q, K and V).
Names = dict[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class NameMap:
    """Names as a fine-tuned checkpoint writes them; an encoder saved alone drops `prefix`."""

    architecture: str
    prefix: str
    encoder: Names
    head: Names


def names_for(config: EncoderConfig) -> NameMap:
    """Return the names of a checkpoint with a sequence-classification head."""
    if config.family is Family.DISTILBERT:
        return NameMap(
            "DistilBertForSequenceClassification",
            "distilbert.",
            _encoder_names("distilbert.", config, "transformer.layer", _DISTILBERT_LAYER),
            {"head.dense": "pre_classifier", "head.output": "classifier"},
        )
    if config.family is Family.BERT:
        return NameMap(
            "BertForSequenceClassification",
            "bert.",
            _encoder_names("bert.", config, "encoder.layer", _BERT_LAYER),
            {"head.dense": "bert.pooler.dense", "head.output": "classifier"},
        )
    return NameMap(
        "RobertaForSequenceClassification"
        if config.family is Family.ROBERTA
        else "XLMRobertaForSequenceClassification",
        "roberta.",
        _encoder_names("roberta.", config, "encoder.layer", _BERT_LAYER),
        {"head.dense": "classifier.dense", "head.output": "classifier.out_proj"},
    )


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
