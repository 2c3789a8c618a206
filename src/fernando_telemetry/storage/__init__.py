"""Everything that talks to PostgreSQL. asyncpg and its errors stop here.

schema.py       SQLAlchemy metadata, read by Alembic and by nothing else
migrating.py    brings a database to this program's schema, under an advisory lock
sessions.py     how a connection is opened, and the driver's errors in the domain's words
statements.py   loads the named statements of sql/*.sql
partitions.py   makes time partitions with their lean index set
"""
