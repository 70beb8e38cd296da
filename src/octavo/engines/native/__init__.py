"""The native INT8 engine: a C++ extension that runs packed batches, fused and without padding.

`weights` reads the canonical graph, `extension` hands it over, `engine` is the protocol. The C++ lies in `native/` at
the root of the repository.
"""
