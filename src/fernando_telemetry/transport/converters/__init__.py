"""Rows and answers to messages, requests to plain values; one module per proto file.

Rows are asyncpg's, read by the column names of storage/sql. NULL becomes "", an unset optional
or an enum's 0; ids become text.
"""
