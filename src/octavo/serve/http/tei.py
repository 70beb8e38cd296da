"""Text Embeddings Inference: `/embed`, `/predict`, `/info` and `/health`, as its clients send and read them.

One server of theirs is one model; here a body may name one (`model`), and has to where several would do. Inputs that
are too long are cut, unless `truncate` is false. Their `/rerank` is in `rerank`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import numpy as np
from msgspec import Meta

import octavo
from octavo.serve.http.asking import ask, model_for
from octavo.serve.http.endpoint import Operation
from octavo.serve.http.errors import Dialect
from octavo.serve.http.exchange import Answer, Call, json_answer, named_answer
from octavo.serve.http.length import Cut, Truncate, check_cut
from octavo.serve.http.openai import check_dimensions, items_as
from octavo.serve.refusals import BadRequest, Unavailable, UnknownModel
from octavo.serve.service import ModelInfo, Reply
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.probabilities import softmax
from octavo.types import FloatArray, Pair


class EmbedInputs(msgspec.Struct, kw_only=True):
    """Texts to embed. Other fields are ignored."""

    inputs: str | Annotated[list[str], Meta(min_length=1)]
    normalize: bool = True
    prompt_name: Annotated[Literal["query", "document", "passage"], Meta(description="What the texts are.")] | None = (
        None
    )
    dimensions: Annotated[int, Meta(description="Must be what the model has.")] | None = None
    truncate: Truncate = None
    truncation_direction: Cut = None
    model: str | None = None


class PredictInputs(msgspec.Struct, kw_only=True):
    """A text, a pair of texts as a list of two, or a list of such lists of one or two. Other fields are ignored."""

    inputs: str | Annotated[list[str | list[str]], Meta(min_length=1)]
    raw_scores: Annotated[bool, Meta(description="Logits in place of probabilities.")] = False
    truncate: Truncate = None
    truncation_direction: Cut = None
    model: str | None = None


class Prediction(TypedDict):
    """A label, and how likely it is."""

    label: str
    score: float


class Info(TypedDict):
    """What serves, and its limits."""

    model_id: str
    model_sha: str
    model_dtype: str
    model_type: dict[str, Any]
    max_input_length: int
    max_client_batch_size: int
    auto_truncate: bool
    version: str


async def _embed(call: Call, body: EmbedInputs) -> Answer:
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    if body.dimensions is not None:
        check_dimensions(model_for(call.service, Embed, body.model), body.dimensions)
    check_cut(body.truncation_direction)
    items = items_as(body.prompt_name or "query", texts)
    reply = await ask(call, Embed, items, body.model, decode=False, whole=body.truncate is False)
    vectors = reply.outputs.values
    return named_answer(list(_of_length_1(vectors) if body.normalize else vectors), reply)


async def _predict(call: Call, body: PredictInputs) -> Answer:
    items, is_batch = _items(body.inputs)
    check_cut(body.truncation_direction)
    reply = await ask(call, Classify, items, body.model, whole=body.truncate is False)
    predictions = _predictions(call, reply, raw=body.raw_scores)
    return named_answer(predictions if is_batch else predictions[0], reply)


async def _info(call: Call, body: None) -> Answer:
    info = _described(call)
    content: Info = {
        "model_id": info.model,
        "model_sha": info.sha256,
        "model_dtype": info.precision,
        "model_type": _model_type(info),
        "max_input_length": info.max_length,
        "max_client_batch_size": call.settings.max_inputs,
        "auto_truncate": True,
        "version": octavo.__version__,
    }
    return json_answer(content)


def _described(call: Call) -> ModelInfo:
    """Return the model that the query string names, or the only one."""
    if name := call.query_value("model"):
        return call.service.model(name)
    models = call.service.models()
    if not models:
        raise Unavailable("No model serves yet.")
    if len(models) > 1:
        names = ", ".join(info.model for info in models)
        raise BadRequest(f"Several models serve: {names}. Say which one: /info?model={models[0].model}.")
    return models[0]


def _model_type(info: ModelInfo) -> dict[str, Any]:
    settings = info.task.settings()
    if info.task.name == Embed.name:
        return {"embedding": {"pooling": settings["pooling"]}}
    if info.task.name == Classify.name:
        names = {str(i): label for i, label in enumerate(settings["labels"])}
        return {"classifier": {"id2label": names, "label2id": {label: int(i) for i, label in names.items()}}}
    return {"reranker" if info.task.name == "rank" else info.task.name: {}}


def _items(inputs: str | list[str | list[str]]) -> tuple[list[str | Pair], bool]:
    """Return the texts and pairs that the inputs mean, and whether they are a batch."""
    if isinstance(inputs, str):
        return [inputs], False
    texts = [part for part in inputs if isinstance(part, str)]
    if len(texts) == len(inputs):
        return [_text_or_pair(texts)], False
    if texts:
        raise BadRequest("The inputs mix texts and lists. A batch is a list of lists: [[text], [text, second text]].")
    return [_text_or_pair(part) for part in inputs if not isinstance(part, str)], True


def _text_or_pair(texts: Sequence[str]) -> str | Pair:
    match texts:
        case [text]:
            return text
        case [text, second]:
            return Pair(text, second)
    raise BadRequest(f"An input has {len(texts)} texts and may have 1 or 2. A batch is a list of lists.")


def _predictions(call: Call, reply: Reply, *, raw: bool) -> list[list[Prediction]]:
    """Return every label with its score, the highest first."""
    try:
        # The version that answered need not be the one that serves now.
        labels = call.service.model(reply.model, reply.version).task.settings()["labels"]
    except UnknownModel:  # it was unloaded a moment ago: the likeliest labels are in its answers
        return [[{"label": label, "score": score} for label, score in one.scores.items()] for one in reply.answers]
    logits = reply.outputs.values  # (inputs, labels)
    scores = logits if raw else softmax(logits)
    order = np.argsort(-logits, axis=1, kind="stable")
    return [
        [{"label": labels[i], "score": float(row[i])} for i in ids]
        for row, ids in zip(scores, order.tolist(), strict=True)
    ]


def _of_length_1(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # (texts, 1)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


OPERATIONS = (
    Operation(
        method="POST",
        path="/embed",
        handle=_embed,
        summary="Embed texts",
        dialect=Dialect.TEI,
        body=EmbedInputs,
        answer=list[list[float]],
        example={"inputs": ["list running containers"]},
    ),
    Operation(
        method="POST",
        path="/predict",
        handle=_predict,
        summary="Say how likely each label is",
        dialect=Dialect.TEI,
        body=PredictInputs,
        answer=list[Prediction | list[Prediction]],
        example={"inputs": "undo the last commit"},
    ),
    Operation(
        method="GET",
        path="/info",
        handle=_info,
        summary="Describe the model (/info?model=NAME where there are several)",
        dialect=Dialect.TEI,
        answer=Info,
    ),
)
