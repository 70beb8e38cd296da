"""Fake quantization in torch: the quantizers, the observers that calibrate them, and their placement."""
