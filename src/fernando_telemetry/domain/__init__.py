"""The rules of telemetry, pure: no I/O, no clock, no await, nothing of ours imported.

errors.py     every error the service answers with
limits.py     every limit on a record, a batch or a query, with its verdict
"""
