"""Rows in: readers, split checks, query logs and the embedded sample. Knows no tokenizer and no model."""
