"""The form of bodies and headers; what tensors mean to each task is tested beside `serve/inference.py`."""

import json

import numpy as np
import pytest

from octavo.serve.tensors import raw_from_texts, texts_from_raw

INFER = "/v2/models/intent/infer"


def tensor(*texts, name="text", **changes):
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts), **changes}


def binary(head, *raws, length=None):
    """Return the options of a request with bytes after its JSON."""
    written = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(written) if length is None else length)}
    return {"content": b"".join([written, *raws]), "headers": headers}


def test_tensors_in_json(client, tiny_served):
    answer = client.post(INFER, {"id": "7", "inputs": [tensor("turn it off", "lamp")]})
    content = answer.json()
    expected = tiny_served["intent"].predict(["turn it off", "lamp"])
    assert (content["model_name"], content["model_version"], content["id"]) == ("intent", "3", "7")
    label, confidence, logits = content["outputs"]
    assert (label["name"], label["datatype"], label["shape"]) == ("label", "BYTES", [2])
    assert label["data"] == [one.label for one in expected]
    assert confidence["data"] == pytest.approx([one.confidence for one in expected])
    assert (logits["shape"], len(logits["data"])) == ([2, 5], 10)
    assert answer.headers["x-octavo-version"] == "3"


def test_nested_data_and_a_version(client):
    nested = tensor("turn it off", "lamp") | {"shape": [2, 1], "data": [["turn it off"], ["lamp"]]}
    plain = client.post(INFER, {"inputs": [tensor("turn it off", "lamp")]}).json()
    answer = client.post("/v2/models/intent/versions/2/infer", {"inputs": [nested]}).json()
    assert answer["model_version"] == "2"
    assert answer["outputs"] == plain["outputs"]
    assert "id" not in answer


def test_tensors_in_bytes(client):
    texts = ["turn it off", "é"]
    raw = raw_from_texts(texts)
    head = {"inputs": [tensor(*texts, data=None, parameters={"binary_data_size": len(raw)})]}
    head["parameters"] = {"binary_data_output": True}
    answer = client.request("POST", INFER, **binary(head, raw))
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    content, rest = json.loads(answer.content[:length]), answer.content[length:]
    sizes = [one["parameters"]["binary_data_size"] for one in content["outputs"]]
    assert sum(sizes) == len(rest)
    plain = client.post(INFER, {"inputs": [tensor(*texts)]}).json()["outputs"]
    assert texts_from_raw(rest[: sizes[0]], "label") == plain[0]["data"]
    np.testing.assert_array_equal(np.frombuffer(rest[-sizes[2] :], "<f4"), np.array(plain[2]["data"], np.float32))


def test_each_output_says_whether_it_is_wanted_in_bytes(client):
    outputs = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "logits"}]
    body = {"inputs": [tensor("lamp")], "outputs": outputs, "parameters": {"binary_data_output": True}}
    answer = client.post(INFER, body)
    content = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    assert ["data" in one for one in content["outputs"]] == [True, False]


def test_inputs_may_be_mixed(client, service):
    raw = raw_from_texts(["b"])
    head = {
        "inputs": [
            tensor("a"),
            tensor("b", name="text_pair", data=None, parameters={"binary_data_size": len(raw)}),
        ]
    }
    assert client.request("POST", INFER, **binary(head, raw)).status_code == 200
    assert (service.asked[0].items[0].first, service.asked[0].items[0].second) == ("a", "b")


@pytest.mark.parametrize(
    ("head", "raws", "length", "part"),
    [
        ({"inputs": [tensor("a", data=None)]}, [], None, "its data is missing"),
        ({"inputs": [tensor("a", data=None, parameters={"shared_memory_region": "x"})]}, [], None, "shared memory"),
        ({"inputs": [tensor("a", data=None, parameters={"binary_data_size": 9})]}, [b"1234"], None, "4 bytes are left"),
        ({"inputs": [tensor("a", data=None, parameters={"binary_data_size": -1})]}, [b"1"], None, "binary_data_size"),
        ({"inputs": [tensor("a", data=None, parameters={"binary_data_size": "1"})]}, [b"1"], None, "binary_data_size"),
        ({"inputs": [tensor("a", data=None, parameters={"binary_data_size": 3})]}, [b"123"], None, "end within"),
        (
            {"inputs": [tensor("a", data=None, parameters={"binary_data_size": 5})]},
            [b"\1\0\0\0\xff"],
            None,
            "not UTF-8",
        ),
        ({"inputs": [tensor("a")]}, [b"more"], None, "belong to no input"),
        ({"inputs": [tensor("a")]}, [], 10**6, "Inference-Header-Content-Length"),
        ({"inputs": [tensor("a")]}, [], "x", "Inference-Header-Content-Length"),
        ({"inputs": [tensor("a")]}, [], 5, "no JSON"),
        ({"inputs": [tensor("a"), tensor("a")]}, [], None, "occurs twice"),
        ({"inputs": [tensor(1)]}, [], None, "list of texts"),
        ({"inputs": [tensor([["a"]])]}, [], None, "list of texts"),
        ({"inputs": [tensor("a", datatype="FP32")]}, [], None, "datatype"),
        ({"inputs": [tensor("a", "b", shape=[3])]}, [], None, "2 elements came"),
        ({"inputs": []}, [], None, "'text' is missing"),
        ({"inputs": [tensor("a")], "outputs": [{"name": "scores"}]}, [], None, "'scores' is not known"),
        ({"inputs": [tensor("a")], "parameters": {"timeout": "soon"}}, [], None, "microseconds"),
    ],
)
def test_what_does_not_add_up_is_refused(client, service, head, raws, length, part):
    answer = client.request("POST", INFER, **binary(head, *raws, length=length))
    assert answer.status_code == 400
    assert part in answer.json()["error"]
    assert not service.asked


def test_models_are_described(client):
    metadata = client.get("/v2/models/match").json()
    assert metadata == {
        "name": "match",
        "versions": ["3", "2"],
        "platform": "octavo_native",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, 32]}],
    }
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data", "parameters"]


def test_models_are_ready_or_unknown(client):
    assert client.get("/v2/models/match/ready").json() == {"ready": True}
    assert client.get("/v2/models/match/versions/2/ready").status_code == 200
    for path in ("/v2/models/none/ready", "/v2/models/match/versions/9/ready"):
        answer = client.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])


def test_too_many_inputs(make_client):
    answer = make_client(max_inputs=2).post(INFER, {"inputs": [tensor("a", "b", "c")]})
    assert (answer.status_code, list(answer.json())) == (413, ["error"])
