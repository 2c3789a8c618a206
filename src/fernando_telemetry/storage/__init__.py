"""Everything that talks to PostgreSQL. asyncpg and its errors stop here.

sessions.py     how a connection is opened, and the driver's errors in the domain's words; hosts.py
statements.py   loads the named statements of sql/*.sql
schema/         SQLAlchemy metadata by subject, read by Alembic and by nothing else
migrating.py    brings a database to this program's schema, under an advisory lock
duties.py       what befalls what a server does beside its calls
leadership.py   which of all servers does what must not be done twice at once

Writing, in the order of the calls:
writer.py       flushes groups over as many lanes as their failures take
columns.py      checked columns; rows.py checked rows, and what the flush adds to either
series.py       series identities to ids; series_admission.py lets new ones in up to a limit,
                series_expiry.py deletes old ones, overflow.py tells senders of coarser ones
producers.py    hello, fencing, resume, trimming
flush.py        the flush: one transaction; marks.py what makes it exactly once
copy_binary.py  column slices as COPY takes them
rejected_records.py   records that got a verdict, where they are kept

Roll-ups:
rollups.py      all of them; rollup.py what one is made of, *_rollup.py each
fresh_rows.py   a flush's rows grouped (row_groups.py), *_deltas.py what is appended of them
fold.py         deltas into roll-ups; rollup_proof.py roll-ups against raw rows
rollup_gaps.py  what was stored without deltas; gap_closing.py writes it anew
service_edges.py      which service calls which, from raw spans

Partitions and time:
partitions.py   makes them with their lean index set; index_sets.py names the sets
summarising.py  keeps the hot ones' BRIN up; sealing.py gives the others their full set
clean_up.py     applies retention_policies.py by dropping.py and retention_deletes.py
oldest_partitions.py  drops the oldest where there is no room (disk.py)
lanes.py        closes dead lanes and prunes flushes; expiry.py forgets requests and producers

Reading:
snapshots.py    a snapshot that contains a given commit
lists.py        lists through a cursor; list_statement.py their SQL, list_*.py what is special,
                hot_partitions.py the newest rows of partitions that are written
event_summary.py      with event_type_summary.py, event_user_counts.py; user_places.py of sketches,
                sent_arrays.py merges histograms; business_metric_summaries.py
time_series.py  of the series that time_series_groups.py finds, by time_series_statement.py
trace_search.py, traces.py, service_graph.py   spans
committed.py    what was committed behind a cursor; event_tail.py events of it, notices.py NOTIFY
flush_partitions.py   how rows are found by their flush
export_rows.py  COPY as text; export_statement.py, export_kinds.py, export_columns.py
server_facts.py, ad_hoc.py   for operators
"""
