"""Checks of one record each: a message of the contract in, a table row out, or a Rejection.

A row is a tuple in the column order of storage/rows.py, without what the flush adds (ids,
ingested_at, ordinal, shard, flush_id). Nothing that PostgreSQL would refuse may pass here: one
bad value aborts the COPY of everybody's rows.

context.py    what a check needs to know: clock, retention, the stream's defaults
values.py     texts, times, numbers, labels: the checks all kinds share
"""
