"""What an encoder looks like, read and checked from a Hugging Face `config.json`. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from octavo.errors import ModelError
from octavo.text.layout import Positions
from octavo.types import Json


class Family(StrEnum):
    """Encoder families with this layout. The value is `model_type` in `config.json`."""

    BERT = "bert"
    ROBERTA = "roberta"
    XLM_ROBERTA = "xlm-roberta"
    DISTILBERT = "distilbert"


ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# How DistilBERT spells what the other families call by the name on the left.
_DISTILBERT_NAMES = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes and constants of one encoder. `position_offset` is the row of the first position in use."""

    family: Family
    vocabulary_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    max_positions: int
    type_vocabulary_size: int
    activation: str
    layer_norm_eps: float
    dropout: float
    position_offset: int

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    @property
    def positions(self) -> Positions:
        """How rows of the position table are counted, segments included."""
        return Positions(self.position_offset, self.max_positions if self.type_vocabulary_size > 1 else 0)

    @property
    def max_length(self) -> int:
        """The longest sequence that has position embeddings, in tokens."""
        return self.max_positions - self.position_offset


def config_from_hf(config: Json, source: str) -> EncoderConfig:
    """Read and check a Hugging Face configuration. `source` names it in errors.

    Raises:
        ModelError: another family, remote code, or values that do not fit together.
    """
    family = _family(config, source)
    distil = family is Family.DISTILBERT

    def number(name: str, default: int | None = None, least: int = 1) -> int:
        key = _DISTILBERT_NAMES.get(name, name) if distil else name
        value = config.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ModelError(f"{source}: '{key}' is {value!r}; it must be a whole number of at least {least}.")
        return value

    def fraction(name: str, default: float) -> float:
        key = _DISTILBERT_NAMES.get(name, name) if distil else name
        value = config.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise ModelError(f"{source}: '{key}' is {value!r}; it must be a number from 0 to below 1.")
        return float(value)

    def text(name: str, default: str) -> str:
        return str(config.get(_DISTILBERT_NAMES.get(name, name) if distil else name, default))

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    if hidden % heads:
        raise ModelError(f"{source}: hidden_size {hidden} is not a multiple of num_attention_heads {heads}.")
    activation = text("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise ModelError(f"{source}: activation '{activation}' is not known. Known: {', '.join(ACTIVATIONS)}.")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(f"{source}: only absolute position embeddings are supported.")
    if config.get("is_decoder"):
        raise ModelError(f"{source}: this is a decoder; Octavo compresses encoders.")
    roberta = family in (Family.ROBERTA, Family.XLM_ROBERTA)
    parsed = EncoderConfig(
        family=family,
        vocabulary_size=number("vocab_size"),
        hidden_size=hidden,
        layers=number("num_hidden_layers"),
        heads=heads,
        intermediate_size=number("intermediate_size"),
        max_positions=number("max_position_embeddings"),
        type_vocabulary_size=0 if distil else number("type_vocab_size", 2),
        activation=activation,
        layer_norm_eps=1e-12 if distil else fraction("layer_norm_eps", 1e-12),
        dropout=fraction("hidden_dropout_prob", 0.1),
        # RoBERTa counts positions from the row after the padding token's.
        position_offset=number("pad_token_id", 1, least=0) + 1 if roberta else 0,
    )
    if parsed.max_length < 1:
        raise ModelError(f"{source}: max_position_embeddings {parsed.max_positions} leaves no position for a token.")
    return parsed


def _family(config: Json, source: str) -> Family:
    if config.get("auto_map"):
        raise ModelError(f"{source}: the model asks to run its own code ('auto_map'). Octavo runs no remote code.")
    name = config.get("model_type")
    if name not in list(Family):  # a list compares; a set would hash, and JSON values need not be hashable
        known = ", ".join(Family)
        raise ModelError(f"{source}: model_type {name!r} is not supported. Supported families: {known}.")
    return Family(name)
