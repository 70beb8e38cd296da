"""OpenAI's embeddings and list of models, as its clients send and read them.

Texts are embedded as queries unless `input_type` (which OpenAI does not have, and its clients pass on) says otherwise.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from octavo.serve.http.asking import ask, model_for
from octavo.serve.http.endpoint import Operation
from octavo.serve.http.errors import Dialect
from octavo.serve.http.exchange import Answer, Call, json_answer, named_answer
from octavo.serve.http.typed import written_vectors
from octavo.serve.refusals import BadRequest
from octavo.serve.service import ModelInfo
from octavo.tasks.embed import Document, Embed

InputType = Literal["query", "document", "passage"]

_TOKENS = (
    "The input is token ids, which mean nothing to another model's tokenizer. Send texts; in LangChain: "
    "OpenAIEmbeddings(check_embedding_ctx_length=False)."
)


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """Texts to embed. Other fields are ignored."""

    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(description="Must be what the model has.")] | None = None
    input_type: Annotated[InputType, Meta(description="What the texts are; `passage` means document.")] = "query"


class EmbeddingItem(TypedDict):
    """A vector: numbers, or in base64 the same as little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(TypedDict):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(TypedDict):
    """A vector for each text, in order."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: Usage


class ModelItem(TypedDict):
    """A model that serves; what OpenAI does not have stands at the end."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: str
    version: str
    engine_id: str
    precision: str
    verdict: str


class ModelList(TypedDict):
    """All models that serve."""

    object: Literal["list"]
    data: list[ModelItem]


async def _embeddings(call: Call, body: EmbeddingsRequest) -> Answer:
    items = items_as(body.input_type, _texts(body.input))
    if body.dimensions is not None:
        check_dimensions(model_for(call.service, Embed, body.model), body.dimensions)
    reply = await ask(call, Embed, items, body.model, decode=False)
    vectors = written_vectors(reply.outputs.values, body.encoding_format or "float")
    content = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        "model": reply.model,
        "usage": {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens},
    }
    return named_answer(content, reply)


async def _models(call: Call, body: None) -> Answer:
    return json_answer({"object": "list", "data": [_model_item(info) for info in call.service.models()]})


async def _model(call: Call, body: None) -> Answer:
    return json_answer(_model_item(call.service.model(call.path["model"])))


def items_as(input_type: str, texts: list[str]) -> list[Any]:
    """Return texts as the items that an embedder takes: queries as they are, all else as documents."""
    return list(texts) if input_type == "query" else [Document(text) for text in texts]


def check_dimensions(info: ModelInfo, wanted: int) -> None:
    """Refuse another length of vectors than an embedder's. Raises BadRequest."""
    has = info.task.settings()["dimensions"]
    if wanted != has:
        raise BadRequest(f"dimensions is {wanted}, and {info.model} makes vectors of {has} numbers. Leave it out.")


def _texts(given: str | list[str | int | list[int]]) -> list[str]:
    listed = [given] if isinstance(given, str) else given
    texts = [text for text in listed if isinstance(text, str)]
    if len(texts) < len(listed):
        raise BadRequest(_TOKENS)
    return texts


def _model_item(info: ModelInfo) -> ModelItem:
    return {
        "id": info.model,
        "object": "model",
        "created": int(datetime.fromisoformat(info.since).timestamp()),
        "owned_by": "octavo",
        "task": info.task.name,
        "version": info.version,
        "engine_id": info.engine_id,
        "precision": info.precision,
        "verdict": info.certificate.verdict,
    }


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/embeddings",
        handle=_embeddings,
        summary="Embed texts",
        dialect=Dialect.OPENAI,
        body=EmbeddingsRequest,
        answer=EmbeddingsAnswer,
        example={"model": "tool-match", "input": ["list running containers"], "encoding_format": "float"},
    ),
    Operation(
        method="GET",
        path="/v1/models",
        handle=_models,
        summary="List the models that serve",
        dialect=Dialect.OPENAI,
        answer=ModelList,
    ),
    Operation(
        method="GET",
        path="/v1/models/{model}",
        handle=_model,
        summary="Describe a model that serves",
        dialect=Dialect.OPENAI,
        answer=ModelItem,
    ),
)
