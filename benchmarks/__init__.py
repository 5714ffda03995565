"""Benchmarks: `python -m benchmarks --device cpu`."""
