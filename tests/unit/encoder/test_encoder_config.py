import pytest

from octavo.encoder.config import Family, config_from_hf
from octavo.errors import ModelError
from octavo.text.layout import Positions

BERT = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-6,
    "hidden_dropout_prob": 0.2,
}
ROBERTA = BERT | {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 130}
DISTILBERT = {
    "model_type": "distilbert",
    "vocab_size": 100,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 128,
    "activation": "relu",
    "dropout": 0.3,
}


def test_bert():
    config = config_from_hf(BERT, "here")
    assert config.family is Family.BERT
    assert (config.hidden_size, config.layers, config.heads, config.head_size) == (32, 2, 4, 8)
    assert (config.intermediate_size, config.vocabulary_size, config.type_vocabulary_size) == (64, 100, 2)
    assert (config.activation, config.layer_norm_eps, config.dropout) == ("gelu", 1e-6, 0.2)
    assert (config.position_offset, config.max_length) == (0, 128)
    assert config.positions == Positions(0, segment_stride=128)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_roberta_counts_positions_from_after_the_padding_row(family):
    config = config_from_hf(ROBERTA | {"model_type": family}, "here")
    assert (config.family, config.position_offset, config.max_length) == (family, 2, 128)
    assert config_from_hf(ROBERTA | {"type_vocab_size": 1}, "here").positions == Positions(2, segment_stride=0)
    assert config.positions == Positions(2, segment_stride=130)


def test_distilbert_spells_its_sizes_differently():
    config = config_from_hf(DISTILBERT, "here")
    assert (config.hidden_size, config.layers, config.heads, config.intermediate_size) == (32, 2, 4, 64)
    assert (config.activation, config.dropout, config.layer_norm_eps) == ("relu", 0.3, 1e-12)
    assert (config.type_vocabulary_size, config.position_offset) == (0, 0)
    assert config.positions == Positions()


@pytest.mark.parametrize("family", ["gpt2", "deberta-v2", "modernbert", "t5", "BERT", "", None, 7, ["bert"], {}])
def test_another_family_is_refused_by_name(family):
    with pytest.raises(ModelError, match=r"here: model_type .* not supported.*bert, roberta, xlm-roberta") as e:
        config_from_hf(BERT | {"model_type": family}, "here")
    assert repr(family) in str(e.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "modeling.Mine"}}, "auto_map.*runs no remote code"),
        ({"is_decoder": True}, "decoder"),
        ({"position_embedding_type": "relative_key"}, "absolute position embeddings"),
        ({"position_embedding_type": "relative_key_query"}, "absolute position embeddings"),
        ({"num_attention_heads": 5}, "hidden_size 32 is not a multiple of num_attention_heads 5"),
        ({"hidden_act": "swish"}, "activation 'swish' is not known.*gelu"),
        ({"hidden_act": None}, "activation 'None' is not known"),
        ({"hidden_size": 0}, "'hidden_size' is 0"),
        ({"hidden_size": "32"}, "'hidden_size' is '32'"),
        ({"hidden_size": 32.0}, "'hidden_size' is 32.0"),
        ({"num_hidden_layers": True}, "'num_hidden_layers' is True"),
        ({"num_hidden_layers": -1}, "'num_hidden_layers' is -1"),
        ({"vocab_size": None}, "'vocab_size' is None"),
        ({"type_vocab_size": 0}, "'type_vocab_size' is 0"),
        ({"layer_norm_eps": "tiny"}, "'layer_norm_eps' is 'tiny'"),
        ({"layer_norm_eps": None}, "'layer_norm_eps' is None"),
        ({"layer_norm_eps": float("nan")}, "'layer_norm_eps' is nan"),
        ({"hidden_dropout_prob": 1.5}, "'hidden_dropout_prob' is 1.5"),
        ({"hidden_dropout_prob": None}, "'hidden_dropout_prob' is None"),
    ],
)
def test_values_that_do_not_fit_are_named(change, message):
    with pytest.raises(ModelError, match=f"here: .*{message}"):
        config_from_hf(BERT | change, "here")


@pytest.mark.parametrize("missing", ["vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"])
def test_a_missing_size_is_named(missing):
    with pytest.raises(ModelError, match=f"'{missing}' is None"):
        config_from_hf({key: value for key, value in BERT.items() if key != missing}, "here")


def test_errors_use_the_familys_own_spelling():
    with pytest.raises(ModelError, match="'n_layers' is 0"):
        config_from_hf(DISTILBERT | {"n_layers": 0}, "here")
    with pytest.raises(ModelError, match="'dropout' is -1"):
        config_from_hf(DISTILBERT | {"dropout": -1}, "here")


def test_a_position_table_that_the_offset_uses_up_is_refused():
    with pytest.raises(ModelError, match="leaves no position"):
        config_from_hf(ROBERTA | {"max_position_embeddings": 2}, "here")
