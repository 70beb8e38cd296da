"""What the Open Inference Protocol calls the inputs and outputs of each task: named tensors.

| task | inputs | outputs |
|---|---|---|
| `classify` | `text` [n]; `text_pair` [n] for pairs | `label` BYTES [n], `confidence` [n], `logits` [n, labels] |
| `tag` | `text` [n] | `tagging` BYTES [n], a JSON object each; `confidence` [n] |
| `embed` | `text` [n]; parameter `input_type`: `query` (default) or `document` | `embedding` [n, dimensions] |
| `rank` | `query` [1] or [n], `documents` [n] | `relevance_score` [n] and `logits` [n], in the order sent |

Inputs are BYTES, texts in UTF-8; outputs are FP32 where nothing else is said. A shape [n, 1] is read as [n].

Knows tasks and the service's requests, neither HTTP nor gRPC.
Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from octavo.serve.refusals import BadRequest
from octavo.serve.service import ModelInfo, Reply
from octavo.serve.tensors import ANY, BYTES, FP32, Tensor, TensorSpec
from octavo.tasks.base import Task
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Document, Embed
from octavo.tasks.rank import Rank, RankRequest
from octavo.tasks.tag import Tag
from octavo.types import FloatArray, Pair

EXTENSIONS = ("binary_tensor_data", "parameters")


def input_specs(task: Task) -> tuple[TensorSpec, ...]:
    """Return the inputs that a task cannot do without."""
    return tuple(TensorSpec(name, BYTES, (ANY,)) for name in _FORMS[task.name].needed)


def output_specs(task: Task) -> tuple[TensorSpec, ...]:
    """Return what a task puts out."""
    return tuple(TensorSpec(output.name, output.datatype, output.shape(task)) for output in _FORMS[task.name].outputs)


def items_from_texts(task: Task, texts: Mapping[str, list[str]], parameters: Mapping[str, Any]) -> list[Any]:
    """Return the items, as the task's `prepare` takes them, that named inputs mean.

    Raises:
        BadRequest: an input is missing, unknown, or of another length than its partner.
    """
    form = _FORMS[task.name]
    known = (*form.needed, *form.optional)
    for name in form.needed:
        if name not in texts:
            raise BadRequest(f"Input '{name}' is missing. A model of task {task.name} takes: {', '.join(known)}.")
    if unknown := [name for name in texts if name not in known]:
        raise BadRequest(
            f"Input '{unknown[0]:.60}' is not known. A model of task {task.name} takes: {', '.join(known)}."
        )
    return form.items(texts, parameters)


def inputs_of(texts: Mapping[str, list[str]]) -> int:
    """Return how many inputs of the model some named inputs come to."""
    return max(map(len, texts.values()), default=0)


def check_outputs(task: Task, names: Sequence[str]) -> None:
    """Refuse outputs that a task does not have. Raises BadRequest."""
    known = [output.name for output in _FORMS[task.name].outputs]
    if unknown := [name for name in names if name not in known]:
        raise BadRequest(
            f"Output '{unknown[0]:.60}' is not known. A model of task {task.name} has: {', '.join(known)}."
        )


def tensors_from_reply(task: Task, reply: Reply, names: Sequence[str]) -> list[Tensor]:
    """Return the outputs of some names, in that order; all of them where no name is given."""
    outputs = {output.name: output for output in _FORMS[task.name].outputs}
    tensors = []
    for name in names or outputs:
        values = outputs[name].values(reply)
        shape = (len(values),) if isinstance(values, list) else values.shape
        tensors.append(Tensor(name, shape, values))
    return tensors


def platform_of(info: ModelInfo) -> str:
    """Return what metadata call the engine of a model."""
    return f"octavo_{info.backend}"


def deadline_from_parameters(parameters: Mapping[str, Any], deadline_s: float | None) -> float | None:
    """Return the earlier of a deadline and that of the parameter `timeout`, in microseconds. Raises BadRequest."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return deadline_s
    if not isinstance(timeout, int) or isinstance(timeout, bool) or not 0 < timeout < 10**15:
        raise BadRequest(f"Parameter timeout is {timeout!r:.40}. Give a whole number of microseconds from 1 on.")
    own_s = time.monotonic() + timeout / 1e6
    return own_s if deadline_s is None else min(own_s, deadline_s)


@dataclass(frozen=True, slots=True)
class _Output:
    name: str
    datatype: str
    values: Callable[[Reply], FloatArray | list[str]]
    shape: Callable[[Task], tuple[int, ...]] = lambda task: (ANY,)


@dataclass(frozen=True, slots=True)
class _Form:
    """What a task takes and gives, as tensors."""

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    items: Callable[[Mapping[str, list[str]], Mapping[str, Any]], list[Any]]
    outputs: tuple[_Output, ...]


def _to_classify(texts: Mapping[str, list[str]], parameters: Mapping[str, Any]) -> list[Any]:
    if "text_pair" not in texts:
        return texts["text"]
    _check_lengths(texts, "text", "text_pair")
    return [Pair(*pair) for pair in zip(texts["text"], texts["text_pair"], strict=True)]


def _to_tag(texts: Mapping[str, list[str]], parameters: Mapping[str, Any]) -> list[Any]:
    return texts["text"]


def _to_embed(texts: Mapping[str, list[str]], parameters: Mapping[str, Any]) -> list[Any]:
    kind = parameters.get("input_type", "query")
    if kind not in ("query", "document"):
        raise BadRequest(f"Parameter input_type is {kind!r:.60} and must be query or document.")
    return texts["text"] if kind == "query" else [Document(text) for text in texts["text"]]


def _to_rank(texts: Mapping[str, list[str]], parameters: Mapping[str, Any]) -> list[Any]:
    queries, documents = texts["query"], texts["documents"]
    if len(queries) == 1:
        return [RankRequest(queries[0], documents)]
    _check_lengths(texts, "query", "documents")
    return [RankRequest(query, [document]) for query, document in zip(queries, documents, strict=True)]


def _check_lengths(texts: Mapping[str, list[str]], first: str, second: str) -> None:
    if len(texts[first]) != len(texts[second]):
        raise BadRequest(
            f"Inputs '{first}' and '{second}' have {len(texts[first])} and {len(texts[second])} elements; "
            "they belong together one by one."
        )


def _confidence(reply: Reply) -> FloatArray:
    return np.array([answer.confidence for answer in reply.answers], np.float32)


def _relevance(reply: Reply) -> FloatArray:
    """Return the scores in the order in which the documents came, (documents,)."""
    return np.concatenate([_in_order(ranking.results) for ranking in reply.answers])


def _in_order(results: Sequence[Any]) -> FloatArray:
    scores = np.empty(len(results), np.float32)
    scores[[one.index for one in results]] = [one.relevance_score for one in results]
    return scores


_FORMS = {
    Classify.name: _Form(
        needed=("text",),
        optional=("text_pair",),
        items=_to_classify,
        outputs=(
            _Output("label", BYTES, lambda reply: [answer.label for answer in reply.answers]),
            _Output("confidence", FP32, _confidence),
            _Output(
                "logits", FP32, lambda reply: reply.outputs.values, lambda task: (ANY, len(task.settings()["labels"]))
            ),
        ),
    ),
    Tag.name: _Form(
        needed=("text",),
        optional=(),
        items=_to_tag,
        outputs=(
            _Output("tagging", BYTES, lambda reply: [orjson.dumps(answer).decode() for answer in reply.answers]),
            _Output("confidence", FP32, _confidence),
        ),
    ),
    Embed.name: _Form(
        needed=("text",),
        optional=(),
        items=_to_embed,
        outputs=(
            _Output(
                "embedding",
                FP32,
                lambda reply: reply.outputs.values,
                lambda task: (ANY, task.settings()["dimensions"] or ANY),
            ),
        ),
    ),
    Rank.name: _Form(
        needed=("query", "documents"),
        optional=(),
        items=_to_rank,
        outputs=(
            _Output("relevance_score", FP32, _relevance),
            _Output("logits", FP32, lambda reply: reply.outputs.values[:, 0]),
        ),
    ),
}
