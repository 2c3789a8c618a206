"""The rules of telemetry, pure: no I/O, no clock, no await, nothing outside of domain imported.

vocabulary.py      the words of every enum; currencies.py those of ISO 4217
limits.py          every limit on a record, a batch or a query, with its verdict
errors.py          every error the service answers with; verdicts.py what an ack says of a record
identifiers.py     UUIDv7, identity hashes, trace ids, shards; series.py a series' identity
json_text.py       JSON as jsonb judges it
filters.py         the filter's grammar; filter_columns.py and filter_values.py what it may name
paging.py          page sizes, orders, tokens; token_text.py how those are written; time_range.py
calendar.py        the spans that partitions are cut along; retention.py how long records are kept
flush_ids.py       commit tokens; cursor.py what was read of all lanes; export_place.py
rollup_cover.py    which parts of a range roll-ups answer for; edge_chunks.py, ten minutes each
log_histogram.py   durations by buckets; user_sketch.py users by bits; distributions.py percentiles
alignment.py       samples to values of buckets; grouping.py what they are grouped by
trace_tree.py      spans to a tree; trace_times.py its times and critical path; service_graph.py
disk_room.py       whether there is room to take records
"""
