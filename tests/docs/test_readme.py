"""Every command block of README.md runs, in order, in one folder, against a tiny model of the same shape."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text("utf-8"))


def _run(kind: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-euc", code] if kind == "bash" else [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_two_commands_are_targets() -> None:
    named = {code.strip() for kind, code in BLOCKS if kind == "bash" and code.startswith("make ")}
    assert named == {"make demo", "make test"}
    for command in named:
        subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_blocks_run(tmp_path: Path, tiny_task: Path) -> None:
    """`tiny_task` holds my-teacher/, train.jsonl, dev.jsonl and test.jsonl."""
    ran = 0
    for kind, code in BLOCKS:
        if code.startswith(("make ", "pip install")):
            continue
        # A few hundred synthetic rows cannot decide half a point, and a gate that says no ends the block.
        code = code.replace("octavo compress my-teacher", "octavo compress my-teacher --margin 20 --epochs 1")
        done = _run(kind, code, tiny_task)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        ran += 1
    assert ran >= 2


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
