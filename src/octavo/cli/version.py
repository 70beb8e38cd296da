"""`octavo version`."""

from __future__ import annotations

import platform
from importlib import metadata

import typer

import octavo
from octavo.cli import output
from octavo.cli.options import AsJson

_PACKAGES = ("openvino", "onnxruntime", "numpy", "tokenizers", "torch", "transformers", "onnx")


def version(as_json: AsJson = False) -> None:
    """Print the versions of Octavo, Python and the packages that it runs on.

    [bold]Example[/bold]

      octavo version --json

    [bold]Exit codes[/bold]

      0 done
    """
    versions = {"octavo": octavo.__version__, "python": platform.python_version()}
    versions |= {name: _installed(name) for name in _PACKAGES}
    if as_json:
        output.emit({name: found or None for name, found in versions.items()})
        return
    for name, found in versions.items():
        output.line(f"{name:14}{found or 'not installed'}")


def print_version(asked: bool) -> None:
    """Print the version alone and leave: `octavo --version`."""
    if asked:
        output.line(f"octavo {octavo.__version__}")
        raise typer.Exit


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
