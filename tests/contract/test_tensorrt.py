"""The TensorRT engine on stand-ins for TensorRT and CUDA: its own code, not TensorRT's (that is `tests/gpu`)."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from engine_contract import MIXED, OnnxEngineContract
from fake_tensorrt import FakeCuda, FakeTensorRt, install

from octavo.engines.open import Backend, open_engine
from octavo.engines.tensorrt import TensorRtEngine
from octavo.engines.torch import TorchEngine
from octavo.errors import EngineError
from octavo.recipe import TensorRt


@dataclass(frozen=True)
class InHalf:
    """A subject whose float parts run in fp16: 11 bits in place of 24, and so more roundings that flip."""

    subject: object

    def __getattr__(self, name):
        return getattr(self.subject, name)

    def tolerance(self, batch):
        outputs = TorchEngine(self.subject.model, self.subject.graph.positions, "reference").run(batch)
        flips = 1.5 * self.subject.react(batch) if self.subject.name == "int8" else 0.0
        return flips + 0.003 * float(np.abs(outputs).max(initial=0.0))

    def with_nan(self):
        return InHalf(self.subject.with_nan())


@pytest.fixture(scope="session")
def subjects(subjects):
    return lambda *names: InHalf(subjects(*names))


@pytest.fixture
def package():
    return FakeTensorRt()


@pytest.fixture
def cuda():
    return FakeCuda()


@pytest.fixture(autouse=True)
def _stand_ins(package, cuda, monkeypatch):
    install(monkeypatch, package, cuda)


class TestTensorRt(OnnxEngineContract):
    backend = "tensorrt"

    @pytest.fixture(params=["classify", "words", "mean"])  # one for each form of `read`; the graph is not ours to test
    def each(self, request, precision, subjects):
        return subjects(precision, request.param)

    def build(self, subject):
        return TensorRtEngine(subject.graph)

    def test_answers_depend_on_the_tokens(self, each_engine, each, make_batch):
        """As in the contract, with the width that fp16's tolerance leaves."""
        batch = make_batch([9] * 8, head=each.head)
        assert each_engine.run(batch).std(axis=0).max() > 2 * each.tolerance(batch)

    def test_answers_depend_on_the_segments(self, subjects, precision, make_batch):
        subject = subjects(precision, "pairs")
        engine = self.build(subject)
        pairs, texts = make_batch([9, 5], head="pairs"), make_batch([9, 5])
        assert np.abs(engine.run(pairs) - engine.run(texts)).max() > 2 * subject.tolerance(pairs)
        engine.close()

    @pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x09", b"\x00" * 1000], ids=repr)
    def test_malformed_graph(self, subject, capfd, content):
        graph = replace(subject.graph, graphs={"canonical": content}, key=repr(content))
        with pytest.raises(EngineError, match="cannot build the engine"):
            TensorRtEngine(graph)
        assert capfd.readouterr() == ("", "")

    def test_truncated_graph(self, subject):
        content = subject.graph.graphs["canonical"]
        graph = replace(subject.graph, graphs={"canonical": content[: len(content) // 2]}, key="truncated")
        with pytest.raises(EngineError, match="cannot build the engine"):
            TensorRtEngine(graph)

    def test_closing_frees_all_memory(self, subjects, make_batch, cuda):
        engine = TensorRtEngine(subjects("fp32").graph)
        engine.run(make_batch([5]))
        assert cuda.live
        engine.close()
        assert not cuda.live
        assert not cuda.streams

    @pytest.mark.parametrize("profiles", [1, 2, 4])
    def test_every_number_of_profiles_serves_every_shape(self, subjects, make_batch, profiles):
        subject = subjects("fp32")
        engine = TensorRtEngine(replace(subject.graph, key=None), options=TensorRt(profiles=profiles))
        for lengths in ([1], [512], [3, 5], [9] * 20, [512] * 9, [1] * 65):
            batch = make_batch(lengths)
            expected = TorchEngine(subject.model, subject.graph.positions, "reference").run(batch)
            np.testing.assert_allclose(engine.run(batch), expected, atol=subject.tolerance(batch))

    def test_a_text_longer_than_the_plan_is_refused(self, subjects, make_batch):
        engine = TensorRtEngine(replace(subjects("fp32").graph, max_length=16, key=None))
        with pytest.raises(EngineError, match="for shapes up to"):
            engine.run(make_batch([40]))

    def test_options_reach_the_builder(self, subjects, package):
        options = TensorRt(profiles=3, workspace_mb=7, builder_optimization_level=1)
        open_engine(Backend.TENSORRT, replace(subjects("fp32").graph, key=None), tensorrt=options)
        (config,) = package.builds
        assert len(config.profiles) == 3
        assert config.workspace_bytes == 7 << 20
        assert config.builder_optimization_level == 1
        assert config.profiling_verbosity == "detailed"

    def test_kernels_are_tuned_to_the_commonest_shape(self, subjects, package):
        TensorRtEngine(replace(subjects("fp32").graph, key=None, shapes=((96, 8, 16), (224, 32, 16), (12, 1, 12))))
        alone, batches = package.builds[0].profiles
        assert alone["slots"][1] == (1, 12)
        assert batches["slots"][1] == (8, 16)
        assert batches["input_ids"][1] == (96,)

    @pytest.mark.parametrize(("version", "flags"), [("10.13.0.35", 2), ("11.4.0", 0)])
    def test_version_10_is_asked_for_a_strongly_typed_network(self, subjects, monkeypatch, cuda, version, flags):
        package = FakeTensorRt(version)
        install(monkeypatch, package, cuda)
        engine = TensorRtEngine(replace(subjects("fp32").graph, key=None))
        assert package.flags == [flags]
        assert engine.engine_id == f"tensorrt-{version}/fp32/fp16/tesla-t4-sm75"

    def test_the_twin_of_a_release_is_used_where_it_has_one(self, subjects, make_batch):
        from octavo.engines.tensorrt import fp16_graph

        graph = subjects("int8").graph
        twin = fp16_graph(graph)
        own = replace(graph, graphs={"fp16": twin}, key=None)
        batch = make_batch(MIXED)
        assert np.array_equal(TensorRtEngine(own).run(batch), TensorRtEngine(replace(graph, key=None)).run(batch))


class TestPlanCache:
    @pytest.fixture
    def graph(self, subjects, tmp_path, monkeypatch):
        monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
        return subjects("fp32").graph

    def test_a_plan_is_built_once(self, graph, package, make_batch):
        first = TensorRtEngine(graph).run(make_batch(MIXED))
        assert np.array_equal(TensorRtEngine(graph).run(make_batch(MIXED)), first)
        assert len(package.builds) == 1

    def test_another_gpu_version_release_or_option_is_built_anew(self, graph, package, cuda, monkeypatch):
        TensorRtEngine(graph)
        TensorRtEngine(replace(graph, key="another"))
        TensorRtEngine(graph, options=TensorRt(profiles=1))
        assert len(package.builds) == 3
        install(monkeypatch, package, FakeCuda("NVIDIA L4", (8, 9)))
        TensorRtEngine(graph)
        assert len(package.builds) == 4
        newer = FakeTensorRt("11.5.0")
        install(monkeypatch, newer, cuda)
        TensorRtEngine(graph)
        assert len(newer.builds) == 1

    def test_a_plan_that_tensorrt_refuses_is_built_anew(self, graph, package, tmp_path):
        import hashlib

        TensorRtEngine(graph)
        (blob,) = (tmp_path / "cache").glob("*.blob")
        foreign = b"a plan of another version"
        blob.write_bytes(hashlib.sha256(foreign).digest() + foreign)
        TensorRtEngine(graph)
        assert len(package.builds) == 2

    def test_timings_are_kept_for_the_next_build(self, graph, package):
        TensorRtEngine(graph)
        TensorRtEngine(replace(graph, key="another"))
        assert [config.timings_given for config in package.builds] == [b"", b"timings"]


class TestRefusals:
    """Each says what to do."""

    @pytest.fixture
    def graph(self, subjects):
        return replace(subjects("fp32").graph, key=None)

    def test_no_package(self, graph, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(EngineError, match=r"octavo\[tensorrt\]"):
            TensorRtEngine(graph)

    def test_no_bindings(self, graph, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        with pytest.raises(EngineError, match=r"octavo\[tensorrt\]"):
            TensorRtEngine(graph)

    @pytest.mark.parametrize("version", ["8.6.1", "12.0.0"])
    def test_an_unknown_version(self, graph, monkeypatch, cuda, version):
        install(monkeypatch, FakeTensorRt(version), cuda)
        with pytest.raises(EngineError, match=r"knows versions 10 and 11.*pip install"):
            TensorRtEngine(graph)

    @pytest.mark.parametrize(
        ("error", "words"), [(35, "no NVIDIA driver, or it is too old"), (100, "no NVIDIA GPU"), (999, "CUDA failed")]
    )
    def test_no_driver_or_gpu(self, graph, monkeypatch, package, error, words):
        install(monkeypatch, package, FakeCuda(error=error))
        with pytest.raises(EngineError, match=words):
            TensorRtEngine(graph)

    def test_a_gpu_without_int8(self, graph, monkeypatch, package):
        install(monkeypatch, package, FakeCuda("Tesla P4", (6, 1)))
        with pytest.raises(EngineError, match=r"Tesla P4 is of compute capability 6\.1.*openvino"):
            TensorRtEngine(graph)

    def test_a_plan_that_cannot_be_run_where_it_was_built(self, graph, package):
        package.refused = True
        with pytest.raises(EngineError, match="driver do not fit"):
            TensorRtEngine(graph)

    def test_a_gpu_whose_memory_is_full(self, graph, cuda):
        cuda.full = True
        with pytest.raises(EngineError, match="out of memory"):
            TensorRtEngine(graph)
