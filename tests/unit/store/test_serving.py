"""Which engine `load` takes. A release is real; the native engine is played by OpenVINO."""

import warnings
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

import octavo
from octavo.certify.certificate import Hashes
from octavo.engines.guard import Layout
from octavo.engines.hardware import this_hardware
from octavo.engines.open import Backend, open_engine
from octavo.engines.plan import Plan, Traffic, backend_versions, keep_plan, kept_file
from octavo.errors import EngineError, OctavoWarning, ReleaseError
from octavo.store import model as models
from octavo.store.release import open_release
from octavo.store.serving import keep_certificate


@dataclass(frozen=True)
class Opened:
    backend: str
    layout: Layout = Layout.BUCKETED
    threads: int | None = None


@pytest.fixture
def broken():
    """Backends that cannot be built here."""
    return set()


@pytest.fixture
def opened(monkeypatch, own_cache, broken):
    """The engines that were asked for, in order."""
    found = []

    def fake(backend, graph, *, threads=None, layout=Layout.BUCKETED):
        found.append(Opened(backend, layout, threads))
        if backend in broken:
            raise EngineError(f"There is no {backend}.")
        return open_engine(Backend.OPENVINO if backend is Backend.NATIVE else backend, graph, threads=1, layout=layout)

    monkeypatch.setattr(models, "open_engine", fake)
    return found


@pytest.fixture
def plan_for():
    """Keep a plan for a release."""

    def keep(folder, backend, layout=Layout.BUCKETED, threads=None):
        plan = Plan(
            release_sha256=open_release(folder).sha256,
            model="tiny",
            version="2",
            backend=Backend(backend),
            layout=layout,
            engine_id=f"{backend}-1.0/int8",
            threads=threads,
            why="",
            int8_pays=None,
            traffic=Traffic(None, 1, 1.0, 1),
            rounds=3,
            measured=[],
            versions=backend_versions(),
            hardware=this_hardware(),
            created="",
        )
        keep_plan(plan)

    return keep


@pytest.fixture
def certify_for(make_certificate):
    """Keep a certificate for another engine than the release's."""

    def keep(folder, backend, **changes):
        release = open_release(folder)
        graph = release.manifest.files["model.onnx"].sha256
        options = {"engine_id": f"{backend}-1.0/int8", "sha256": Hashes(graph, "b" * 64, graph), **changes}
        return keep_certificate(release, Backend(backend), make_certificate(**options))

    return keep


def served(folder, **options):
    """Load without a word, and return the backend that serves."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with octavo.load(folder, **options) as model:
            assert model.predict(["book a table"])
            return model.backend


def test_without_a_plan_the_certified_engine_serves(publish_tiny, opened):
    assert served(publish_tiny()) is Backend.OPENVINO
    assert opened == [Opened("openvino")]
    assert served(publish_tiny("onnxruntime")) is Backend.ONNXRUNTIME


def test_the_plan_s_layout_and_threads_are_taken(publish_tiny, opened, plan_for):
    folder = publish_tiny()
    plan_for(folder, "openvino", Layout.PADDED, threads=1)
    for threads in (None, 1):
        served(folder, threads=threads)
        assert opened.pop() == Opened("openvino", Layout.PADDED, 1)


def test_a_planned_engine_serves_only_once_it_is_certified(publish_tiny, opened, plan_for, certify_for):
    folder = publish_tiny()
    plan_for(folder, "native", None)
    assert served(folder) is Backend.OPENVINO
    certify_for(folder, "native")
    with octavo.load(folder) as model:
        assert model.backend is Backend.NATIVE
        assert model.certificate.engine_id == "native-1.0/int8"
    assert served(folder, backend="native") is Backend.NATIVE
    assert served(folder, backend="openvino") is Backend.OPENVINO


@pytest.mark.parametrize(
    "changes",
    [
        {"lost": 900},
        {"engine_id": "onnxruntime-1.0/int8"},
        {"sha256": Hashes("c" * 64, "b" * 64, "c" * 64)},
    ],
    ids=["no pass", "another engine", "other weights"],
)
def test_a_certificate_that_does_not_fit_covers_nothing(publish_tiny, opened, plan_for, certify_for, changes):
    folder = publish_tiny()
    plan_for(folder, "native", None)
    certify_for(folder, "native", **changes)
    assert served(folder) is Backend.OPENVINO
    with pytest.raises(ReleaseError, match="certified on openvino, and native was asked for"):
        octavo.load(folder, backend="native")


def test_a_damaged_certificate_covers_nothing(publish_tiny, opened, plan_for, certify_for):
    folder = publish_tiny()
    plan_for(folder, "native", None)
    file = certify_for(folder, "native")
    file.write_bytes(file.read_bytes()[:-20])
    assert served(folder) is Backend.OPENVINO


def test_a_plan_makes_no_release_pass(publish_tiny, opened, plan_for, certify_for):
    folder = publish_tiny(lost=900, margin=0.01)
    plan_for(folder, "native", None)
    certify_for(folder, "native")
    with pytest.raises(ReleaseError, match="'fail'"):
        octavo.load(folder)
    assert opened == []


def test_other_threads_than_were_planned_are_said(publish_tiny, opened, plan_for):
    folder = publish_tiny()
    plan_for(folder, "openvino", Layout.PADDED, threads=1)
    with pytest.warns(OctavoWarning, match=r"for 1 thread, and 2 threads will run.*octavo build .* --threads 2"):
        octavo.load(folder, threads=2).close()
    assert opened == [Opened("openvino", threads=2)]
    plan_for(folder, "openvino", threads=1)  # the choice that is made without a plan too: nothing to say
    served(folder, threads=2)


def test_a_damaged_plan_is_said_and_ignored(publish_tiny, opened, plan_for):
    folder = publish_tiny()
    plan_for(folder, "openvino", Layout.PADDED)
    kept_file(open_release(folder).sha256, "plan").write_bytes(b"{")
    with pytest.warns(OctavoWarning, match=r"the plan is damaged.*octavo build"):
        octavo.load(folder).close()
    assert opened == [Opened("openvino")]


def test_openvino_stands_in_for_a_native_engine_that_is_not_here_and_says_so(publish_tiny, opened, broken):
    folder = publish_tiny("native")
    assert served(folder) is Backend.NATIVE
    broken.add("native")
    with pytest.warns(OctavoWarning) as said:
        model = octavo.load(folder)
    assert model.backend is Backend.OPENVINO
    model.close()
    assert len(said) == 1, "said once"
    message = str(said[0].message)
    assert "There is no native. openvino serves in its place, which its certificate does not cover" in message
    assert str(folder) in message
    assert said[0].filename == __file__


def test_a_planned_engine_that_is_gone_is_said(publish_tiny, opened, plan_for, certify_for, broken):
    folder = publish_tiny()
    plan_for(folder, "native", None)
    certify_for(folder, "native")
    broken.add("native")
    with pytest.warns(OctavoWarning, match=r"There is no native\. openvino serves in its place\."):
        octavo.load(folder).close()


def test_nothing_stands_in_for_an_engine_that_was_named(publish_tiny, opened, broken):
    broken.add("native")
    with pytest.raises(EngineError, match="no native"):
        octavo.load(publish_tiny("native"), backend="native")


def test_where_no_engine_is_left_the_last_one_s_error_is_told(publish_tiny, opened, broken):
    broken.update(["native", "openvino"])
    with pytest.warns(OctavoWarning), pytest.raises(EngineError, match="no openvino"):
        octavo.load(publish_tiny("native"))


def test_what_is_named_is_taken_with_its_layout(publish_tiny, opened):
    served(publish_tiny(), backend="openvino", layout="padded")
    assert opened == [Opened("openvino", Layout.PADDED)]


def test_a_release_is_never_changed(publish_tiny, opened, plan_for, certify_for):
    folder = publish_tiny()
    before = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    plan_for(folder, "native", None)
    certify_for(folder, "native")
    served(folder)
    assert {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()} == before


def test_the_layout_that_was_planned_is_for_that_engine(publish_tiny, opened, plan_for):
    """A plan that was written by a newer measurement replaces the older one."""
    folder = publish_tiny()
    plan_for(folder, "openvino", Layout.PADDED)
    plan_for(folder, "openvino", Layout.PACKED)
    served(folder)
    assert opened == [Opened("openvino", Layout.PACKED)]
    assert msgspec.json.decode(kept_file(open_release(folder).sha256, "plan").read_bytes())["layout"] == "packed"


def test_golden_answers_in_fp16_may_be_as_far_off_as_the_twin_is(publish_tiny, own_cache, monkeypatch):
    """An FP32 release's own tolerance is for float32."""
    read = models.content_from_bytes

    def strict(*args):
        golden = read(*args)
        return msgspec.structs.replace(golden, tolerance=1e-3 * abs(np.array(golden.outputs)).max())

    with octavo.load(publish_tiny().parent / "tiny" / "1", backend="openvino", threads=1) as model:
        run, off = type(model.engine).run, 0.0

        def run_off(engine, batch):
            outputs = run(engine, batch)
            return outputs + off * abs(outputs).max()

        monkeypatch.setattr(type(model.engine), "run", run_off)
        monkeypatch.setattr(models, "content_from_bytes", strict)
        models.check_golden(model)
        off = 0.003
        with pytest.raises(ReleaseError, match="answers differently"):
            models.check_golden(model)
        model.backend = Backend.TENSORRT
        models.check_golden(model)
        off = 0.007
        with pytest.raises(ReleaseError, match="answers differently"):
            models.check_golden(model)
