"""Small real tokenizers, as model folders have them, and what a model might put out for their tokens."""

from collections.abc import Callable

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from octavo.tasks.base import Reads, Task
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer
from octavo.types import Outputs

WIDTH = 8  # of a hidden state, where a head has no output layer
_MAX_LENGTH = 24


def _wordpiece() -> tokenizers.Tokenizer:
    """BERT's: control characters and what has no width are dropped before words are looked at."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh"), "lamp"]
    tokenizer = tokenizers.Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def _byte_level() -> tokenizers.Tokenizer:
    """RoBERTa's, with a token for each byte: no text is unknown to it."""
    special = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(special)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


@pytest.fixture(scope="session", params=["wordpiece", "byte-level"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    made = {"wordpiece": _wordpiece, "byte-level": _byte_level}[request.param]()
    return Tokenizer.from_bytes(made.to_str().encode(), max_length=_MAX_LENGTH, source="tokenizer.json")


@pytest.fixture(scope="session")
def make_outputs() -> Callable[[Task, TokenBatch, int], Outputs]:
    """Return random outputs of a task's head to a batch."""

    def make(task: Task, batch: TokenBatch, seed: int = 0) -> Outputs:
        rng = np.random.default_rng(seed)
        width = WIDTH if task.head.outputs is None else task.head.outputs
        offsets = batch.read_offsets if task.head.reads is Reads.WORDS else np.arange(len(batch) + 1)
        return Outputs(rng.normal(size=(offsets[-1], width)).astype(np.float32), offsets)

    return make
