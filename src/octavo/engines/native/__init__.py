"""The native INT8 engine: a C++ extension that runs packed batches, fused and without padding.

`graph_reader` makes `weights` of the canonical graph, `extension` hands them over, `engine` is the protocol. The C++
lies in `native/` at the root of the repository.
"""

from __future__ import annotations

from importlib.util import find_spec


def available() -> bool:
    """Return whether the extension was built when this package was installed; without a compiler it was not."""
    return find_spec("octavo.engines.native._native") is not None
