from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.engines import plan as plans
from octavo.engines.guard import Layout
from octavo.engines.hardware import this_hardware
from octavo.engines.open import Backend, default_backend
from octavo.engines.plan import Measured, Plan, Spread, Traffic, backend_versions, keep_plan, kept_file, read_plan
from octavo.errors import EngineError

SHA = "a" * 64


@pytest.fixture
def plan(own_cache):
    measured = Measured(
        backend=Backend.OPENVINO,
        layout=Layout.PADDED,
        precision="int8",
        engine_id="openvino-1/int8/f32",
        ms_per_query={1: Spread(1.0, 0.9, 1.2), 32: Spread(0.5, 0.4, 0.6)},
        times_fp32={1: Spread(2.0, 1.9, 2.2), 32: Spread(3.0, 2.8, 3.1)},
    )
    refused = Measured(backend=Backend.NATIVE, layout=None, precision="int8", reason="not built")
    return Plan(
        release_sha256=SHA,
        model="intents",
        version="3",
        backend=Backend.OPENVINO,
        layout=Layout.PADDED,
        engine_id="openvino-1/int8/f32",
        threads=2,
        why="It is the fastest.",
        int8_pays=True,
        traffic=Traffic("queries.txt", 100, 11.5, 40),
        rounds=12,
        measured=[refused, measured],
        versions=backend_versions(),
        hardware=this_hardware(),
        created="2026-01-02T03:04:05+00:00",
    )


def test_a_plan_comes_back_as_it_was_kept(plan, own_cache):
    assert read_plan(SHA) is None
    file = keep_plan(plan)
    assert file.parent == own_cache
    assert read_plan(SHA) == plan
    assert plan.chosen is plan.measured[1]
    newer = msgspec.structs.replace(plan, threads=None)
    assert keep_plan(newer) == file
    assert read_plan(SHA) == newer
    assert [*own_cache.iterdir()] == [file]


def test_the_plan_of_another_release_is_none(plan):
    keep_plan(plan)
    assert read_plan("b" * 64) is None


def _other_machine(monkeypatch, **changes):
    other = msgspec.structs.replace(this_hardware(), **changes)
    monkeypatch.setattr(plans, "this_hardware", lambda: other)


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu": "another processor"},
        {"flags": ("avx2",)},
        {"logical_cores": 1000},
        {"packages": {"openvino": "2031.1", "onnxruntime": "1.99"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_plan_of_another_machine_or_version_is_none(plan, monkeypatch, changes):
    file = keep_plan(plan)
    _other_machine(monkeypatch, **changes)
    assert read_plan(SHA) is None
    file.rename(kept_file(SHA, "plan"))  # as if it had been made there
    with pytest.raises(EngineError, match="another release, machine or version"):
        read_plan(SHA)


def test_memory_and_python_are_no_reason_to_measure_again(plan, monkeypatch):
    keep_plan(plan)
    _other_machine(monkeypatch, memory_bytes=1, python="3.99", system="another kernel")
    assert read_plan(SHA) == plan


def test_a_plan_under_another_release_s_name_is_refused(plan):
    keep_plan(plan).rename(kept_file("b" * 64, "plan"))
    with pytest.raises(EngineError, match="another release"):
        read_plan("b" * 64)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_plan_is_an_error_that_names_the_file(plan, data):
    file = keep_plan(plan)
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 3))  # the last bytes are a brace and a line feed
    file.write_bytes(data.draw(st.sampled_from([whole[:cut], b"[" * 100_000, b"\xff" + whole, b"{}", b"null"])))
    with pytest.raises(EngineError, match=r"plan\.json: the plan is damaged"):
        read_plan(SHA)


def test_an_engine_that_is_not_known_is_damage(plan):
    file = keep_plan(plan)
    file.write_bytes(file.read_bytes().replace(b'"backend": "openvino"', b'"backend": "abacus"'))
    with pytest.raises(EngineError, match="abacus"):
        read_plan(SHA)


def test_a_cache_that_cannot_be_written_is_named(plan, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(EngineError, match="OCTAVO_CACHE"):
        keep_plan(plan)
    assert read_plan(SHA) is None


def test_a_user_without_a_home_can_keep_no_plan(plan, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("OCTAVO_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(EngineError, match="OCTAVO_CACHE"):
        keep_plan(plan)
    assert read_plan(SHA) is None


@pytest.fixture
def native(monkeypatch):
    """Let the native engine be built, or not."""

    def build(available):
        monkeypatch.setattr("octavo.engines.native.available", lambda: available)

    return build


def test_the_native_engine_serves_by_default_where_it_was_built(native, plan):
    native(False)
    keep_plan(plan)
    assert default_backend() is Backend.OPENVINO
    native(True)
    assert default_backend() is Backend.NATIVE
    assert read_plan(SHA) is None, "with one engine more, the choice is another"
