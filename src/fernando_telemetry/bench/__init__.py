"""Benchmarks: one file a figure; each ends with one JSON line on stdout."""
