"""The page `docs/serving-api.md`: its commands are answered, and it leaves out no address."""

import re
import shlex
from pathlib import Path

import pytest

from octavo.serve.http.app import all_operations

PAGE = Path(__file__).parents[4].joinpath("docs", "serving-api.md").read_text("utf-8")
# The page names the models of the demo.
NAMES = {"tool-intent": "intent", "home-slots": "slots", "tool-match": "match", "tool-rank": "order"}


def _commands() -> list[list[str]]:
    blocks = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    text = "\n".join(block for block in blocks if block.startswith("curl"))
    for theirs, ours in NAMES.items():
        text = text.replace(theirs, ours)
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("command", _commands(), ids=lambda command: command[1])
def test_every_command_is_answered(client, command):
    path = command[1].removeprefix("localhost:8000")
    if "-d" not in command:
        assert client.get(path).status_code == 200
        return
    assert command[2:4] == ["-H", "Content-Type: application/json"]
    headers = {"Content-Type": "application/json"}
    assert client.request("POST", path, content=command[command.index("-d") + 1], headers=headers).status_code == 200


def test_every_address_is_on_it():
    for operation in all_operations():
        if not operation.path.startswith("/v2/models/"):
            assert f"`{operation.path.removesuffix('/{model}')}" in PAGE
