"""The house: imports point one way, and what serves needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import octavo

SOURCE = Path(octavo.__file__).parent

# From the ground up. A room may import those that stand before it, and itself.
ROOMS = ["types", "errors", "progress", "recipe", "data", "text", "tasks", "encoder", "quantize", "distill"]
ROOMS += ["export", "engines", "certify", "store", "ladder", "serve", "search", "cli"]


def _imports(file: Path) -> set[str]:
    """Return the rooms that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("octavo.")} & set(ROOMS)


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_module_imports_upwards(file: Path) -> None:
    room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    assert room in ROOMS, f"{room} is no room of the house; ARCHITECTURE.md lists them"
    above = {name for name in _imports(file) if ROOMS.index(name) > ROOMS.index(room)}
    assert not above, f"{file} imports upwards: {sorted(above)}"


def test_every_room_is_known() -> None:
    found = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__", "__main__"} == set(ROOMS)


@pytest.mark.parametrize(
    "module",
    [
        *("octavo", "octavo.store.model", "octavo.ladder.recertify", "octavo.ladder.planning"),
        *("octavo.certify.report", "octavo.cli.app", "octavo.recipe"),
        *("octavo.serve.http.app", "octavo.serve.grpc.server", "octavo.serve.process"),
        *("octavo.search.pipeline", "octavo.search.build", "octavo.search.web.routes"),
    ],
)
def test_serving_imports_no_torch(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; import {module}"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_library_says_which_extra_is_missing() -> None:
    code = "import sys; sys.modules['torch'] = None; import octavo; octavo.compress"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "pip install 'octavo[compress]'" in done.stderr


def test_public_names_exist() -> None:
    assert {name for name in octavo.__all__ if not hasattr(octavo, name)} == set()
