"""Text in, packed token ids out: the tokenizer, `TokenBatch`, and the shapes that batches are rounded to."""
