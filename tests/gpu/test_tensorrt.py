"""The TensorRT engine on a GPU: build, parity, swap, latency. Nobody has run this file on one yet (docs/gpu.md).

pytest -m gpu tests/gpu
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from octavo.engines.guard import dummy_batch
from octavo.engines.openvino import OpenVinoEngine
from octavo.engines.torch import TorchEngine
from octavo.recipe import TensorRt

pytestmark = pytest.mark.gpu

SIZES = {"hidden_size": 384, "heads": 12, "intermediate_size": 1536, "layers": 6}
HEADS = ["classify", "pairs", "words", "mean"]
LENGTHS = [[1], [9], [3, 1, 17, 40, 2, 9], [12] * 32, [100, 5]]


@pytest.fixture(scope="module")
def models(gpu, make_model, make_quantized, inputs_of, reaction_to_flips):
    """Return a random model of MiniLM's size, its graph, and how far its outputs may lie apart."""
    from octavo.engines.graph import ModelGraph
    from octavo.export.onnx_graph import onnx_from_model

    built = {}

    def of(precision, head):
        if (precision, head) not in built:
            model = (make_quantized if precision == "int8" else make_model)("bert", head, **SIZES)
            content = onnx_from_model(model).SerializeToString()
            graph = ModelGraph(precision, {"canonical": content}, model.config.positions, 512, None)

            def bound(batch, outputs):
                flips = 0.0
                if precision == "int8":
                    flips = reaction_to_flips(model, inputs_of(batch, graph.positions), share=0.05, trials=4)
                return flips + 0.005 * float(np.abs(outputs).max(initial=0.0))

            built[precision, head] = model, graph, bound
        return built[precision, head]

    return of


@pytest.fixture(scope="module")
def engines(models):
    from octavo.engines.tensorrt import TensorRtEngine

    opened = {}

    def of(precision, head):
        if (precision, head) not in opened:
            opened[precision, head] = TensorRtEngine(models(precision, head)[1])
        return opened[precision, head]

    yield of
    for engine in opened.values():
        engine.close()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: f"{len(lengths)} of {max(lengths)}")
def test_equals_torch(models, engines, make_batch, precision, head, lengths):
    """What only a GPU tells: whether products overflow inside a kernel shows here first."""
    model, graph, bound = models(precision, head)
    batch = make_batch(lengths, head=head)
    expected = TorchEngine(model, graph.positions, "reference").run(batch)
    np.testing.assert_allclose(engines(precision, head).run(batch), expected, atol=bound(batch, expected))


def test_alone_or_in_a_batch(models, engines, make_batch):
    _, _, bound = models("int8", "classify")
    engine, batch = engines("int8", "classify"), make_batch([3, 1, 17, 40, 2, 9])
    together = engine.run(batch)
    for row in range(len(batch)):
        one = batch.select([row])
        np.testing.assert_allclose(engine.run(one), together[row : row + 1], atol=bound(one, together))


def test_threads_get_their_own_answers(engines, make_batch):
    engine = engines("int8", "classify")
    batches = [make_batch([4 + seed % 9, 7], seed) for seed in range(40)]
    serial = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for expected, got in zip(serial, pool.map(engine.run, batches), strict=True):
            assert np.array_equal(got, expected)


def test_the_plan_is_kept_and_used(models, make_batch, tmp_path, monkeypatch):
    from octavo.engines import tensorrt

    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path))
    graph, builds = replace(models("int8", "classify")[1], key="a release"), []
    build = tensorrt.build_plan
    monkeypatch.setattr(tensorrt, "build_plan", lambda *a, **k: builds.append(1) or build(*a, **k))
    first, second = tensorrt.TensorRtEngine(graph), tensorrt.TensorRtEngine(graph)
    batch = make_batch([9, 5])
    assert np.array_equal(first.run(batch), second.run(batch))
    assert builds == [1]
    assert list(tmp_path.glob("*.timing"))
    first.close()
    second.close()


def test_a_swap_while_queries_run(models, make_batch):
    """The new engine is opened and warmed up beside the old one, and the old one is closed after its last answer."""
    from octavo.engines.tensorrt import TensorRtEngine

    old = TensorRtEngine(models("fp32", "classify")[1])
    batches = [make_batch([5, 9, 12], seed) for seed in range(200)]
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(old.run, batch) for batch in batches]
        new = TensorRtEngine(models("int8", "classify")[1])
        new.warm_up([dummy_batch((12, 1, 12))])
        assert all(np.isfinite(answer.result()).all() for answer in answers)
    old.close()
    assert np.isfinite(new.run(batches[0])).all()
    new.close()


@pytest.mark.parametrize("profiles", [1, 3])
def test_every_number_of_profiles_gives_the_same_answers(models, engines, make_batch, profiles):
    from octavo.engines.tensorrt import TensorRtEngine

    _, graph, bound = models("int8", "classify")
    engine = TensorRtEngine(graph, options=TensorRt(profiles=profiles))
    for lengths in LENGTHS:
        batch = make_batch(lengths)
        expected = engines("int8", "classify").run(batch)
        np.testing.assert_allclose(engine.run(batch), expected, atol=bound(batch, expected))
    engine.close()


def test_latency_is_measured_beside_the_cpu(models, engines, make_batch, gpu, tmp_path_factory):
    """Asserts no time: writes what docs/results.md wants, medians in ms, all in turns in one run."""
    runners = {
        "tensorrt_int8": engines("int8", "classify"),
        "tensorrt_fp16": engines("fp32", "classify"),
        "openvino_int8": OpenVinoEngine(models("int8", "classify")[1]),
    }
    found = {}
    for lengths in ([12], [12] * 32):
        batch, times = make_batch(lengths), {name: [] for name in runners}
        for number in range(210):
            for name, engine in runners.items():
                started = time.perf_counter()
                engine.run(batch)
                if number >= 10:
                    times[name].append(1e3 * (time.perf_counter() - started))
        found[f"{len(lengths)}x12"] = {name: float(np.median(one)) for name, one in times.items()}
    out = Path(tmp_path_factory.getbasetemp()) / "gpu_latency.json"
    out.write_text(json.dumps({"gpu": gpu.name, "sm": gpu.capability, "median_ms": found}), "utf-8")
    print(out.read_text("utf-8"))
    assert all(value > 0 for one in found.values() for value in one.values())
