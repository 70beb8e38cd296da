"""Fake quantization in torch: the quantizers, the observers that calibrate them, and where they are placed."""
