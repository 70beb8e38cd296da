import shutil

import pytest

from bench.engines import peak
from octavo.engines.hardware import this_hardware
from octavo.errors import EngineError


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("avx2", "avx512f", "avx512_vnni", "amx_int8"), ["fma f32 512", "vnni int8 512", "amx int8"]),
        (("avx2", "avx512f", "avx512_vnni"), ["fma f32 512", "vnni int8 512"]),
        (("avx2", "avx_vnni"), ["fma f32 256", "vnni int8 256"]),
        (("avx2",), ["fma f32 256", "madd int16 256"]),
        (("asimddp", "i8mm"), ["fma f32 neon", "dot int8 neon"]),
        ((), []),
    ],
)
def test_the_widest_loop_of_each_kind_is_the_limit(flags, names):
    assert [loop.name for loop in peak.loops_for(flags)] == names


def test_limit_of_a_kind():
    measured = {"fma f32 512": [], "vnni int8 512": []}
    assert peak.limit_of(peak.INT8_LOOPS, measured) == "vnni int8 512"
    assert peak.limit_of(peak.TILE_LOOPS, measured) is None


def test_without_a_compiler_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(EngineError, match="no C compiler"):
        peak.compiled(peak.INT8_LOOPS[0], tmp_path, 1)


def test_a_compiler_that_fails_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "false")
    with pytest.raises(EngineError, match="not measured: false cannot build it"):
        peak.compiled(peak.INT8_LOOPS[0], tmp_path, 1)
    monkeypatch.setenv("CC", str(tmp_path / "nothing"))
    with pytest.raises(EngineError, match="cannot be run"):
        peak.compiled(peak.INT8_LOOPS[0], tmp_path, 1)


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
def test_loops_of_this_machine_run_on_every_thread(tmp_path):
    for loop in peak.loops_for(this_hardware().flags):
        one, two = (peak.compiled(loop, tmp_path, threads) for threads in (1, 2))
        one.run()
        two.run()
        assert one.gop == pytest.approx(loop.operations * one.steps / 1e9)
        assert two.threads == 2
