"""The rules of telemetry, pure: no I/O, no clock, no await, nothing outside of domain imported.

vocabulary.py      the words of every enum; currencies.py those of ISO 4217
limits.py          every limit on a record, a batch or a query, with its verdict
errors.py          every error the service answers with; verdicts.py what an ack says of a record
identifiers.py     UUIDv7, identity hashes, trace ids, shards; series.py a series' identity
json_text.py       JSON as jsonb judges it
filters.py         the filter's grammar; filter_columns.py and filter_values.py what it may name
paging.py          page sizes, orders, tokens; token_text.py how those are written; time_range.py
calendar.py        the spans that partitions are cut along
"""
