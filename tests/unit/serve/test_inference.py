import json
import time
from dataclasses import replace

import numpy as np
import pytest

from octavo.serve.inference import (
    ANY,
    check_outputs,
    deadline_from_parameters,
    input_specs,
    inputs_of,
    items_from_texts,
    output_specs,
    tensors_from_reply,
)
from octavo.serve.refusals import BadRequest
from octavo.serve.service import Reply, Timing
from octavo.tasks.embed import Document, Embed
from octavo.tasks.rank import RankRequest
from octavo.tasks.registry import NAMES
from octavo.types import Pair
from tests.unit.serve.direct_service import TASKS, make_tiny_models

BY_TASK = {task.name: (name, task) for name, task in TASKS.items()}
TEXTS = {"text": ["turn it off", "lamp", ""]}
# What is sent, and the shapes of what comes back.
EXCHANGES = [
    ("classify", TEXTS, {"label": (3,), "confidence": (3,), "logits": (3, 5)}),
    ("classify", {"text": ["a", "b"], "text_pair": ["c", "d"]}, {"label": (2,), "confidence": (2,), "logits": (2, 5)}),
    ("tag", TEXTS, {"tagging": (3,), "confidence": (3,)}),
    ("embed", TEXTS, {"embedding": (3, 32)}),
    ("rank", {"query": ["a"], "documents": ["b", "c"]}, {"relevance_score": (2,), "logits": (2,)}),
    ("rank", {"query": ["a", "b"], "documents": ["c", "d"]}, {"relevance_score": (2,), "logits": (2,)}),
]


@pytest.fixture(scope="module")
def models():
    return make_tiny_models()


@pytest.fixture
def reply_to(models):
    def ask(task, items):
        model = models[BY_TASK[task][0]]
        outputs = model.outputs(model.task.prepare(items))
        return Reply(BY_TASK[task][0], "1", model.task.decode(outputs, items), outputs, 9, Timing(0, 0, 0))

    return ask


def test_every_task_has_a_form():
    assert set(BY_TASK) == set(NAMES)


@pytest.mark.parametrize(("name", "texts", "shapes"), EXCHANGES)
def test_outputs_have_the_shapes_that_metadata_promise(reply_to, name, texts, shapes):
    task = BY_TASK[name][1]
    reply = reply_to(name, items_from_texts(task, texts, {}))
    tensors = tensors_from_reply(task, reply, [])
    assert {tensor.name: tensor.shape for tensor in tensors} == shapes
    for spec, tensor in zip(output_specs(task), tensors, strict=True):
        assert (spec.name, spec.datatype) == (tensor.name, tensor.datatype)
        assert all(said in (ANY, is_so) for said, is_so in zip(spec.shape, tensor.shape, strict=True))
    assert inputs_of(texts) == next(iter(shapes.values()))[0]
    assert {spec.name for spec in input_specs(task)} <= set(texts)


def test_answers_are_those_of_the_task(reply_to):
    task = BY_TASK["tag"][1]
    reply = reply_to("tag", ["turn it off"])
    tagging, confidence = tensors_from_reply(task, reply, [])
    (answer,) = reply.answers
    written = json.loads(tagging.values[0])
    assert (tuple(written["words"]), tuple(written["tags"])) == (answer.words, answer.tags)
    assert confidence.values[0] == pytest.approx(answer.confidence)


def test_scores_are_in_the_order_of_the_documents(reply_to):
    """One query for all, or a query for each: the same pairs have the same scores."""
    task, documents = BY_TASK["rank"][1], ["b", "c", "turn it off", "d"]
    one = tensors_from_reply(task, reply_to("rank", [RankRequest("a", documents)]), [])
    each = tensors_from_reply(task, reply_to("rank", [RankRequest("a", [text]) for text in documents]), [])
    np.testing.assert_allclose(one[0].values, each[0].values, rtol=1e-6)
    np.testing.assert_allclose(one[1].values, each[1].values, rtol=1e-6)
    assert (np.argsort(one[0].values) == np.argsort(one[1].values)).all()


def test_only_what_is_wanted_is_put_out_in_that_order(reply_to):
    task = BY_TASK["classify"][1]
    reply = reply_to("classify", ["a"])
    assert [one.name for one in tensors_from_reply(task, reply, ["logits", "label"])] == ["logits", "label"]
    with pytest.raises(BadRequest, match=r"'scores' is not known.*label, confidence, logits"):
        check_outputs(task, ["label", "scores"])


def test_items():
    assert items_from_texts(BY_TASK["classify"][1], {"text": ["a"], "text_pair": ["b"]}, {}) == [Pair("a", "b")]
    embed = BY_TASK["embed"][1]
    assert items_from_texts(embed, {"text": ["a"]}, {"input_type": "document"}) == [Document("a")]
    assert items_from_texts(embed, {"text": ["a"]}, {"input_type": "query"}) == ["a"]


@pytest.mark.parametrize(
    ("task", "texts", "parameters", "part"),
    [
        ("classify", {}, {}, "'text' is missing"),
        ("classify", {"text": ["a"], "words": ["b"]}, {}, "'words' is not known.*text, text_pair"),
        ("classify", {"text": ["a", "b"], "text_pair": ["c"]}, {}, "2 and 1 elements"),
        ("rank", {"query": ["a"]}, {}, "'documents' is missing"),
        ("rank", {"query": ["a", "b"], "documents": ["c"]}, {}, "2 and 1 elements"),
        ("embed", {"text": ["a"]}, {"input_type": 3}, "input_type is 3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(task, texts, parameters, part):
    with pytest.raises(BadRequest, match=part):
        items_from_texts(BY_TASK[task][1], texts, parameters)


def test_an_embedder_of_unknown_width_promises_none():
    assert output_specs(replace(BY_TASK["embed"][1], dimensions=0))[0].shape == (ANY, ANY)
    assert output_specs(Embed(dimensions=384))[0].shape == (ANY, 384)


def test_the_earlier_deadline_holds():
    now_s = time.monotonic()
    assert deadline_from_parameters({}, 5.0) == 5.0
    assert deadline_from_parameters({"timeout": 1}, now_s + 100) < now_s + 50
    assert deadline_from_parameters({"timeout": 10**9}, now_s) == now_s
    assert deadline_from_parameters({"timeout": 10**9}, None) > now_s + 500


@pytest.mark.parametrize("timeout", [0, -1, True, 1.5, "1", 10**18])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(BadRequest, match="microseconds"):
        deadline_from_parameters({"timeout": timeout}, None)
