"""Running the program itself, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Ran:
    """How the program ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def program() -> str:
    """Return the installed program."""
    return str(Path(sys.executable).with_name("octavo"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return variables for the program: its own cache, and one thread, which tiny models like best."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "OCTAVO_CACHE": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


@pytest.fixture(scope="session")
def octavo(program: str, environment: dict[str, str]) -> Callable[..., Ran]:
    """Run a command line and return how it ended; it must not be a traceback."""

    def run(*arguments: object, text: str = "", variables: Sequence[tuple[str, str]] = ()) -> Ran:
        ran = subprocess.run(
            [program, *map(str, arguments)],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env=environment | dict(variables),
        )
        assert "Traceback" not in ran.stdout + ran.stderr, ran.stderr
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    return run
