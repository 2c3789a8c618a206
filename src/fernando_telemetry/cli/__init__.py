"""The command line: parse, load settings, call. Imports stay inside commands: starts are quick.

program.py      the commands and their flags
signatures.py   commands whose flags come from a table
serving.py      serve and agent: their life as a process, and what serve prints
database.py     dsn, sql, migrate
send.py         store records; flags.py has its flags, sending.py sends and retries
query.py        list records; listing.py has ranges, pages and traces
rejected.py     list and replay rejected records; rejecting.py does it
kinds.py        the columns of each kind of record
tables.py       tables that fit the terminal; printing.py writes them, or lines of JSON
record_json.py  records as JSON and back
times.py        times and durations as typed
connection.py   which server, one channel, how a command ends
failures.py     what a failed call says
"""
