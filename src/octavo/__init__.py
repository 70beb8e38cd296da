"""Octavo folds a fine-tuned BERT search model into INT8, proves that nothing was lost, and serves it."""

__version__ = "0.1.0"
