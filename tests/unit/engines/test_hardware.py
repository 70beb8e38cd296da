import dataclasses
import os
import re

import msgspec
import pytest

from octavo.engines.hardware import Hardware, cpu_from_cpuinfo, hardware_key, this_hardware, usable_cores

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R)   Gold 6354 CPU @ 3.00GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512vl

processor\t: 1
model name\t: another
flags\t\t: amx_int8
"""
ARM = """processor\t: 0
Features\t: fp asimd asimddp i8mm sve
CPU implementer\t: 0x41
CPU part\t: 0xd4f
"""


def test_x86():
    cpu, flags = cpu_from_cpuinfo(X86)
    assert cpu == "Intel(R) Xeon(R) Gold 6354 CPU @ 3.00GHz"
    assert flags == ("avx2", "avx512f", "avx512_vnni")


def test_arm_without_a_model_name():
    assert cpu_from_cpuinfo(ARM) == ("Arm 0x41/0xd4f", ("asimddp", "i8mm", "sve"))


def test_no_cpuinfo():
    assert cpu_from_cpuinfo("") == ("", ())


def test_this_machine_can_be_described_and_stored():
    hardware = this_hardware()
    assert hardware.cpu
    assert hardware.logical_cores >= 1
    assert "numpy" in hardware.packages
    assert msgspec.json.decode(msgspec.json.encode(hardware), type=Hardware) == hardware


def machine(cpu="Fast CPU @ 3 GHz", flags=("avx2",), **rest):
    values = {"logical_cores": 2, "memory_bytes": 1, "system": "Linux", "python": "3.12", "packages": {}}
    return Hardware(cpu=cpu, flags=flags, **{**values, **rest})


def test_key_depends_on_processor_and_flags_only():
    key = hardware_key(machine())
    assert key == hardware_key(machine(logical_cores=64, memory_bytes=9, packages={"numpy": "2"}))
    assert key != hardware_key(machine(flags=("avx2", "avx_vnni")))
    assert key != hardware_key(machine(cpu="Fast CPU @ 4 GHz"))


@pytest.mark.parametrize("cpu", ["Fast CPU @ 3 GHz", "处理器", "../../etc", "x" * 300])
def test_key_is_safe_in_a_file_name(cpu):
    assert re.fullmatch(r"[a-z0-9-]{1,48}", hardware_key(machine(cpu=cpu)))


def test_hardware_is_frozen():
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        machine().cpu = "other"


@pytest.mark.parametrize(
    ("limit", "period", "cores"),
    [
        (150_000, 100_000, 2),
        (20_000, 100_000, 1),
        (900_000, 100_000, 8),
        ("max", 100_000, 8),
        (-1, 100_000, 8),
        (1, 0, 8),
    ],
)
def test_the_quota_of_a_container_counts(limit, period, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "cpu.max").write_text(f"{limit} {period}\n")
    (tmp_path / "old" / "cpu").mkdir(parents=True)
    (tmp_path / "old" / "cpu" / "cpu.cfs_quota_us").write_text(f"{limit}\n")
    (tmp_path / "old" / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")
    assert usable_cores(tmp_path / "new") == usable_cores(tmp_path / "old") == cores


@pytest.mark.parametrize("content", [None, "", "1 2 3", "\N{SNOWMAN}"])
def test_without_a_quota_the_affinity_counts(content, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    if content is not None:
        (tmp_path / "cpu.max").write_text(content, "utf-8")
    assert usable_cores(tmp_path) == 2
