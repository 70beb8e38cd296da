import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from engine_contract import MIXED, OnnxEngineContract

from octavo.engines import cache
from octavo.engines.guard import Layout, laid_out
from octavo.engines.openvino import OpenVinoEngine, computes_bf16
from octavo.errors import EngineError
from octavo.text.buckets import shape_of
from octavo.text.layout import NO_OFFSET


class TestOpenVino(OnnxEngineContract):
    backend = "openvino"

    def build(self, subject):
        return OpenVinoEngine(subject.graph, threads=2)

    def test_float_parts_stay_f32_by_default(self, subject):
        assert self.build(subject).engine_id.endswith("/f32")


class TestOpenVinoWithOneThread(OnnxEngineContract):
    """As it serves: a stream for each core, which callers use side by side."""

    backend = "openvino"

    def build(self, subject):
        return OpenVinoEngine(subject.graph, threads=1)

    @pytest.fixture
    def two_cores(self, monkeypatch):
        monkeypatch.setattr("octavo.engines.openvino.usable_cores", lambda: 2)

    @pytest.mark.parametrize("layout", Layout)
    def test_callers_do_not_wait_for_each_other(self, subject, make_batch, two_cores, layout):
        engine = OpenVinoEngine(subject.graph, threads=1, layout=layout)
        batch = make_batch(MIXED)
        expected = engine.run(batch)
        with engine._taken(1):  # one caller is at work, and stays there
            assert np.array_equal(engine.run(batch), expected)
        engine.close()

    def test_more_threads_take_fewer_streams(self, subject, two_cores):
        counts = {threads: OpenVinoEngine(subject.graph, threads=threads)._streams for threads in (None, 1, 2, 3)}
        assert counts == {None: 1, 1: 2, 2: 1, 3: 1}

    def test_a_model_out_of_the_cache_has_its_streams(self, subjects, two_cores, monkeypatch, tmp_path):
        monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path))
        graph = subjects("fp32").graph
        OpenVinoEngine(graph, threads=1)
        assert len(list(tmp_path.iterdir())) == 1
        engine = OpenVinoEngine(replace(graph, graphs={"canonical": b""}), threads=1)
        assert engine._streams == 2
        assert not engine._compiled.get_property("ENABLE_CPU_PINNING")

    def test_warm_up_reaches_every_stream(self, subject, make_batch, two_cores, monkeypatch):
        """Each stream keeps kernels of its own: one call for a shape would leave the others cold."""
        engine = OpenVinoEngine(subject.graph, threads=1)
        given = []
        monkeypatch.setattr(engine, "_taken", lambda count, taken=engine._taken: given.append(count) or taken(count))
        engine.warm_up([make_batch([4]), make_batch(MIXED)])
        assert given == [2, 2]


class TestLayouts:
    """Padding differs, answers do not."""

    @pytest.fixture(params=[Layout.PACKED, Layout.PADDED])
    def layout(self, request):
        return request.param

    @pytest.mark.parametrize("lengths", [[7], MIXED, [1] * 9, [40, 1]], ids=str)
    def test_equals_buckets(self, subjects, precision, make_batch, layout, lengths):
        for head in ("classify", "words"):
            subject, batch = subjects(precision, head), make_batch(lengths, head=head)
            engine = OpenVinoEngine(subject.graph, threads=2, layout=layout)
            expected = OpenVinoEngine(subject.graph, threads=2).run(batch)
            np.testing.assert_allclose(engine.run(batch), expected, atol=subject.tolerance(batch))

    def test_the_engine_s_name_is_that_of_its_numbers(self, subject, layout):
        padded = OpenVinoEngine(subject.graph, threads=2, layout=layout)
        assert padded.engine_id == OpenVinoEngine(subject.graph, threads=2).engine_id

    def test_shapes(self, make_batch):
        batch = make_batch([3, 9, 2])
        shapes = {layout: laid_out(batch, NO_OFFSET, layout).shape for layout in Layout}
        assert shapes == {
            Layout.BUCKETED: shape_of(batch),
            Layout.PACKED: (14, 3, 9),
            Layout.PADDED: (27, 3, 9),
        }


class TestCache:
    """The second construction takes the compiled model from disk."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    @pytest.fixture
    def compiled(self, monkeypatch):
        """A list that grows by one at each compilation."""
        calls = []
        compile_model = openvino.Core.compile_model

        def watch(self, *args, **options):
            calls.append(args)
            return compile_model(self, *args, **options)

        monkeypatch.setattr(openvino.Core, "compile_model", watch)
        return calls

    def test_is_used(self, subject, make_batch, folder, compiled):
        batch = make_batch(MIXED)
        first = OpenVinoEngine(subject.graph, threads=2).run(batch)
        (blob,) = folder.iterdir()
        before = blob.read_bytes()
        engine = OpenVinoEngine(subject.graph, threads=2)
        assert len(compiled) == 1
        assert np.array_equal(engine.run(batch), first)
        assert [file.read_bytes() for file in folder.iterdir()] == [before]

    def test_needs_no_onnx_bytes(self, subjects, make_batch, folder, compiled):
        """The key stands for the release: what is cached is found without reading the graph."""
        graph = subjects("fp32").graph
        expected = OpenVinoEngine(graph, threads=2).run(make_batch([4]))
        cached = OpenVinoEngine(replace(graph, graphs={"canonical": b""}), threads=2)
        assert np.array_equal(cached.run(make_batch([4])), expected)

    @pytest.mark.parametrize("change", ["key", "precision", "threads"])
    def test_another_release_precision_or_thread_count_is_compiled_anew(self, subjects, folder, compiled, change):
        graph = subjects("fp32").graph
        OpenVinoEngine(graph, threads=2)
        if change == "threads":
            OpenVinoEngine(graph, threads=1)
        else:
            OpenVinoEngine(replace(graph, **{change: "other"}), threads=2)
        assert len(compiled) == len(list(folder.iterdir())) == 2

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"",
            lambda content: content[:20],
            lambda content: content[:-1],
            lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
            lambda content: bytes([content[0] ^ 1]) + content[1:],
        ],
        ids=["empty", "within the digest", "truncated", "a bit of the blob", "a bit of the digest"],
    )
    def test_a_damaged_blob_is_compiled_anew_and_replaced(self, subjects, make_batch, folder, compiled, damage):
        subject = subjects("int8")
        expected = OpenVinoEngine(subject.graph, threads=2).run(make_batch([4]))
        (blob,) = folder.iterdir()
        whole = blob.read_bytes()
        blob.write_bytes(damage(whole))
        assert np.array_equal(OpenVinoEngine(subject.graph, threads=2).run(make_batch([4])), expected)
        assert len(compiled) == 2
        OpenVinoEngine(subject.graph, threads=2)
        assert len(compiled) == 2  # the new blob serves
        assert list(folder.iterdir()) == [blob]

    def test_a_blob_that_openvino_refuses_is_compiled_anew(self, subjects, make_batch, folder, compiled):
        subject = subjects("fp32")
        OpenVinoEngine(subject.graph, threads=2)
        (blob,) = folder.iterdir()
        foreign = b"a blob of some other version"
        blob.write_bytes(hashlib.sha256(foreign).digest() + foreign)
        assert OpenVinoEngine(subject.graph, threads=2).run(make_batch([4])).shape == (1, 5)
        assert len(compiled) == 2

    def test_a_place_that_cannot_be_written_is_no_error(self, subjects, make_batch, tmp_path, monkeypatch):
        file = tmp_path / "a file"
        file.write_text("no folder", "utf-8")
        monkeypatch.setenv("OCTAVO_CACHE", str(file / "cache"))
        assert OpenVinoEngine(subjects("fp32").graph, threads=2).run(make_batch([4])).shape == (1, 5)
        assert file.read_text("utf-8") == "no folder"

    def test_a_full_disk_leaves_no_half_written_file(self, subjects, make_batch, folder, monkeypatch):
        def full(*_args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        assert OpenVinoEngine(subjects("fp32").graph, threads=2).run(make_batch([4])).shape == (1, 5)
        assert list(folder.iterdir()) == []

    def test_a_user_without_a_home_is_no_error(self, subjects, make_batch, monkeypatch):
        monkeypatch.delenv("OCTAVO_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

        def nowhere():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", nowhere)
        assert OpenVinoEngine(subjects("fp32").graph, threads=2).run(make_batch([4])).shape == (1, 5)


class TestCacheFolder:
    def test_order_of_the_variables(self, monkeypatch, tmp_path):
        monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "own"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache.cache_folder() == tmp_path / "own"
        monkeypatch.delenv("OCTAVO_CACHE")
        assert cache.cache_folder() == tmp_path / "xdg" / "octavo"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache.cache_folder() == Path(os.path.expanduser("~")) / ".cache" / "octavo"  # noqa: PTH111


class TestHalfPrecision:
    """A release in bfloat16 is the FP32 graph, with another precision in its configuration."""

    @pytest.fixture
    def graph(self, subjects):
        return replace(subjects("fp32").graph, precision="bf16", key=None)

    @pytest.mark.skipif(not computes_bf16(), reason="not run: this CPU does not compute bfloat16")
    def test_is_near_float32_and_not_the_same(self, subjects, graph, make_batch):
        batch = make_batch(MIXED)
        engine = OpenVinoEngine(graph, threads=2)
        assert engine.engine_id.endswith("/bf16/bf16")
        expected = OpenVinoEngine(subjects("fp32").graph, threads=2).run(batch)
        difference = np.abs(engine.run(batch) - expected).max()
        assert 1e-5 < difference < 0.05 * np.abs(expected).max()

    def test_a_cpu_without_it_refuses(self, graph, monkeypatch):
        monkeypatch.setattr("octavo.engines.openvino.computes_bf16", lambda: False)
        with pytest.raises(EngineError, match="does not compute bfloat16"):
            OpenVinoEngine(graph)
