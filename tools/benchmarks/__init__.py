"""The sections of tools/benchmark.py."""
