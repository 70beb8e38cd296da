from dataclasses import replace

import msgspec
import numpy as np
import onnxruntime
import pytest
from engine_contract import MIXED, OnnxEngineContract

from octavo.engines import hardware
from octavo.engines.onnxruntime import OnnxRuntimeEngine, Provider
from octavo.engines.open import Backend, open_engine
from octavo.engines.torch import TorchEngine
from octavo.errors import EngineError
from octavo.text.buckets import shape_of


class TestOnnxRuntime(OnnxEngineContract):
    backend = "onnxruntime"

    def build(self, subject):
        return OnnxRuntimeEngine(subject.graph, threads=2)

    def test_the_u8_twin_is_preferred(self, subjects, make_batch):
        subject = subjects("int8")
        canonical = replace(subject.graph, graphs={"canonical": subject.graph.graphs["canonical"]}, key="canonical")
        twin, plain = OnnxRuntimeEngine(subject.graph, threads=2), OnnxRuntimeEngine(canonical, threads=2)
        assert twin.engine_id.endswith("/int8-u8")
        assert plain.engine_id.endswith("/int8")
        batch = make_batch(MIXED)
        np.testing.assert_allclose(twin.run(batch), plain.run(batch), atol=subject.tolerance(batch))

    @pytest.mark.parametrize("vnni", [False, True], ids=["without VNNI", "with VNNI"])
    def test_kernels_of_either_kind_of_processor(self, subjects, make_batch, monkeypatch, vnni):
        here = hardware.this_hardware()
        flags = ("avx2", "avx512_vnni") if vnni else ("avx2",)
        if vnni and not {"avx512_vnni", "avx_vnni"} & set(here.flags):
            pytest.skip("this processor has no VNNI: its fast u8 by s8 kernels saturate")
        monkeypatch.setattr(
            "octavo.engines.onnxruntime.this_hardware", lambda: msgspec.structs.replace(here, flags=flags)
        )
        subject, batch = subjects("int8"), make_batch(MIXED)
        expected = TorchEngine(subject.model, subject.graph.positions, "reference").run(batch)
        got = self.build(subject).run(batch)
        np.testing.assert_allclose(got, expected, atol=subject.tolerance(batch))

    def test_shapes_are_bucketed(self, subjects, make_batch, monkeypatch):
        engine = self.build(subjects("fp32"))
        seen = []

        class Watched:
            def run(self, outputs, inputs):
                seen.append((len(inputs["input_ids"]), *inputs["slots"].shape))
                return session.run(outputs, inputs)

        session, engine._session = engine._session, Watched()
        batches = [make_batch(lengths) for lengths in ([9], [11], [5, 6], [6, 7, 9])]
        for batch in batches:
            engine.run(batch)
        assert seen == [shape_of(batch) for batch in batches]
        assert seen[0] == seen[1]


class TestProviders:
    """ONNX Runtime falls back to the CPU by itself; the engine refuses."""

    @pytest.fixture
    def graph(self, subjects):
        return replace(subjects("int8").graph, key=None)

    def test_bfloat16_is_refused(self, subjects):
        with pytest.raises(EngineError, match="does not compute bfloat16"):
            OnnxRuntimeEngine(replace(subjects("fp32").graph, precision="bf16"))

    @pytest.mark.parametrize("backend", [Backend.ONNXRUNTIME_CUDA, Backend.ONNXRUNTIME_TENSORRT])
    def test_a_provider_that_is_not_installed(self, graph, monkeypatch, backend):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
        with pytest.raises(EngineError, match=r"has no (CUDA|Tensorrt)ExecutionProvider .*pip install onnxruntime-gpu"):
            open_engine(backend, graph)

    @pytest.mark.parametrize("provider", [Provider.CUDA, Provider.TENSORRT])
    def test_a_session_that_fell_back(self, graph, monkeypatch, provider):
        """The package lists the provider, and the session runs on the CPU: what it does on a machine without a GPU."""
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*Provider])
        session, asked = onnxruntime.InferenceSession, []

        def fall_back(content, options, providers, **others):
            asked.append(providers)
            return session(content, options, providers=["CPUExecutionProvider"])

        monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
        with pytest.raises(EngineError, match=f"would run on CPUExecutionProvider and not on {provider}"):
            OnnxRuntimeEngine(graph, provider=provider)
        assert asked[0][0][0] == provider

    def test_a_session_that_runs_where_it_was_asked_to_gets_the_fp16_twin(self, graph, make_batch, monkeypatch):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*Provider])
        session = onnxruntime.InferenceSession

        class OnGpu(session):
            def __init__(self, content, options, providers, **others):
                super().__init__(content, options, providers=["CPUExecutionProvider"])

            def get_providers(self):
                return [str(Provider.CUDA), str(Provider.CPU)]

        monkeypatch.setattr(onnxruntime, "InferenceSession", OnGpu)
        engine = OnnxRuntimeEngine(graph, provider=Provider.CUDA)
        assert engine.engine_id == f"onnxruntime-{onnxruntime.__version__}/int8/fp16/cuda"
        kinds = {node.name: node.type for node in engine._session.get_inputs()}
        assert kinds["mask"] == "tensor(float)"  # the twin's inputs keep their types
        assert np.isfinite(engine.run(make_batch(MIXED))).all()
