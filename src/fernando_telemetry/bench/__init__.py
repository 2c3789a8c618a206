"""Benchmarks: one file a figure, each prints one JSON line.

A benchmark drives the server from outside, as a user would: `serve` is a child process with an
embedded PostgreSQL of its own, the load comes from another process, and what it is compared with
is measured in the same run.
"""
