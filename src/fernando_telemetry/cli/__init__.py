"""The command line: parse, load settings, call. Imports stay inside commands: starts are quick.

program.py      the commands and their flags
signatures.py   commands whose flags come from a table
serving.py      serve and agent: their life as a process, and what serve prints
database.py     dsn, sql, migrate; sql_rows.py the rows of any statement
send.py         store records; flags.py has its flags, sending.py sends and retries
query.py        list records: listing.py has ranges and pages, tracing.py traces and graphs,
                time_series.py what is computed, tailing.py events as they come
rejected.py     list and replay rejected records; rejecting.py does it
retention.py    policies and the clean-up; retaining.py does it
rollups.py      prove roll-ups and mend them; proving.py does it
export.py       Parquet files: exporting.py fetches them by export_stream.py, parquet_files.py
                writes them into an export_folder.py
bench.py        measurements of bench/
kinds.py        the columns of each kind of record
tables.py       tables that fit the terminal; printing.py writes them, or lines of JSON
record_json.py  records as JSON and back
times.py        times and durations as typed
connection.py   which server, one channel, how a command ends
failures.py     what a failed call says
"""
