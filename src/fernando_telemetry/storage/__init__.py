"""Everything that talks to PostgreSQL. asyncpg and its errors stop here.

schema.py       SQLAlchemy metadata, read by Alembic and by nothing else
migrating.py    brings a database to this program's schema, under an advisory lock
sessions.py     how a connection is opened, and the driver's errors in the domain's words
statements.py   loads the named statements of sql/*.sql
partitions.py   makes time partitions with their lean index set

Writing, in the order of the calls:
writer.py       flushes groups over as many lanes as their failures take
series.py       series identities to ids; series_admission.py lets new ones in up to a limit,
                series_expiry.py deletes old ones, overflow.py tells senders of coarser ones
producers.py    hello, fencing, resume, trimming
flush.py        the flush: one transaction; marks.py what makes it exactly once
rows.py         columns of the raw tables, and what the flush adds
expiry.py       forgets old requests and unused producers

Reading:
lists.py        lists through a cursor; list_statement.py their SQL, list_samples.py samples
trace_summaries.py   a trace in one row; server_facts.py, ad_hoc.py for operators
"""
