from dataclasses import replace

import msgspec
import numpy as np
import pytest
from engine_contract import MIXED, OnnxEngineContract

from octavo.engines import hardware
from octavo.engines.onnxruntime import OnnxRuntimeEngine
from octavo.engines.torch import TorchEngine
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
