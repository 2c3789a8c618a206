"""The command line: parse, load settings, call. Imports stay inside commands: starts are quick.

program.py    the commands and their flags
serving.py    serve: the server's life as a process, and what it prints
database.py   dsn, sql, migrate
send.py       send one record; a client of the SDK
query.py      list records; a client of the SDK
"""
