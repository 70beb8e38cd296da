"""What a measurement was made on: processor, memory, system, package versions. Imports no package to ask."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from functools import cache
from importlib import metadata
from math import ceil, inf
from pathlib import Path

import msgspec

# Those that decide how fast INT8 is. Spelled as in /proc/cpuinfo.
_FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),  # x86
    *("asimddp", "i8mm", "sve"),  # Arm
)
_PACKAGES = ("numpy", "openvino", "onnxruntime", "torch", "transformers", "tokenizers", "tensorrt", "onnxruntime-gpu")
_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")
_QUOTAS = ("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")  # of cgroups v2 and v1, in microseconds


class Hardware(msgspec.Struct, frozen=True):
    """One machine, as far as it matters to the speed of an engine.

    Attributes:
        cpu: model name of the processor.
        logical_cores: cores that this process may use.
        flags: instruction sets that INT8 kernels choose by, in a fixed order.
        memory_bytes: physical memory; 0 where it cannot be told.
        system: operating system and kernel.
        python: version of the interpreter.
        packages: versions of the installed packages that run or train models.
    """

    cpu: str
    logical_cores: int
    flags: tuple[str, ...]
    memory_bytes: int
    system: str
    python: str
    packages: dict[str, str]


def this_hardware() -> Hardware:
    """Describe the machine that this runs on."""
    cpuinfo = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
    cpu, flags = cpu_from_cpuinfo(cpuinfo)
    return Hardware(
        cpu=cpu or platform.processor() or platform.machine(),
        logical_cores=usable_cores(),
        flags=flags,
        memory_bytes=_memory_bytes(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages=dict(_installed_versions()),
    )


def cpu_from_cpuinfo(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """Read the model name and the flags that matter from `/proc/cpuinfo`; empty where it is silent."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    present = set((fields.get("flags") or fields.get("Features") or "").split())
    name = fields.get("model name") or fields.get("Model") or ""
    if not name and "CPU part" in fields:  # Arm servers give numbers only
        name = f"Arm {fields.get('CPU implementer', '?')}/{fields['CPU part']}"
    return re.sub(r"\s+", " ", name), tuple(flag for flag in _FLAGS if flag in present)


def hardware_key(hardware: Hardware) -> str:
    """Return a short file-name-safe string that two machines share if the same compiled engine suits both."""
    readable = re.sub(r"[^a-z0-9]+", "-", hardware.cpu.lower()).strip("-")[:32].rstrip("-")
    digest = hashlib.sha256("\n".join([hardware.cpu, *hardware.flags]).encode()).hexdigest()
    return f"{readable or 'cpu'}-{digest[:8]}"


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return how many logical cores this process may use: by its affinity, and by the CPU quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ceil(min(cores, _quota_cores(cgroup))))


def _quota_cores(cgroup: Path) -> float:
    """Return the cores that a quota comes to; infinity where there is none."""
    for files in _QUOTAS:
        try:
            limit_us, period_us = (int(word) for file in files for word in (cgroup / file).read_text("ascii").split())
            return limit_us / period_us if limit_us > 0 else inf
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or no limit: it says "max"
            continue
    return inf


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


@cache  # ten milliseconds of looking through folders, and a service asks at every swap
def _installed_versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
