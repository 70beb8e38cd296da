"""Inference engines: each turns a `TokenBatch` into arrays. Which one is fastest is measured, not assumed."""
