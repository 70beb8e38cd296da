"""Benches of the service, against a real server process: swapping, overload, and what serving costs."""
