"""A server process to measure: started, asked for its state, told to swap, and ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

HOST = "127.0.0.1"
_KEY = "bench"
_START_S = 120.0
_END_S = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves HTTP on loopback."""

    process: subprocess.Popen[bytes]
    port: int
    admin_port: int = 0

    @property
    def cpu_s(self) -> float:
        """CPU time of the process and the children that it has now, in seconds."""
        tree = [self.process.pid, *_descendants(self.process.pid)]
        return sum(_cpu_s(pid) for pid in tree)

    def admin(self, verb: str, path: str, content: object = None) -> tuple[int, Any]:
        """Ask the admin API; return the status and the JSON."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.admin_port}/admin/{path}",
            method=verb,
            data=None if content is None else json.dumps(content).encode(),
            headers={"authorization": f"Bearer {_KEY}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry the labels."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.admin_port}/metrics", headers={"authorization": f"Bearer {_KEY}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith((f"{name}{{", f"{name} ")) and all(label in line for label in wanted)
        )


@contextmanager
def octavo_server(store: Path, *options: str, start_s: float = _START_S) -> Iterator[Server]:
    """Serve a store until the block ends. It has `start_s` to be ready: FP32 in OpenVINO warms up for minutes."""
    port, admin_port = free_port(), free_port()
    command = [sys.executable, "-m", "octavo", "serve", str(store), "--port", str(port)]
    command += ["--admin-port", str(admin_port), "--admin-key", _KEY, "--grace-s", "0", *options]
    with server(command, port, "/ready", admin_port, start_s) as started:
        yield started


@contextmanager
def server(
    command: Sequence[str], port: int, ready: str, admin_port: int = 0, start_s: float = _START_S
) -> Iterator[Server]:
    """Start a process, wait until `ready` answers 200, and end it with the block, and whatever it has started.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    with TemporaryFile() as errors:  # a pipe that nobody reads would stop a server that complains
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        try:
            _wait(process, errors, port, ready, start_s)
            yield Server(process, port, admin_port)
        finally:
            _end(process)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], errors: IO[bytes], port: int, ready: str, start_s: float) -> None:
    until_s = time.monotonic() + start_s
    while time.monotonic() < until_s:
        if process.poll() is not None:
            errors.seek(0)
            raise RuntimeError(f"It ended with {process.returncode}: {errors.read().decode()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}{ready}", timeout=1):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise RuntimeError(f"It was not ready in {start_s:g} s.")


def _end(process: subprocess.Popen[bytes]) -> None:
    tree = _descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in tree:  # workers of a server that did not see to them
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    children = [
        int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
    ]
    return [*children, *(one for child in children for one in _descendants(child))]


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
