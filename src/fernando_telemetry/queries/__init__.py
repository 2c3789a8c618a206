"""The read path: what a request asks for, read in one snapshot of the database.

pages.py      what every list is asked with, and how a page is filled
events.py     ListEvents
metrics.py    ListSystemMetrics, ListBusinessMetrics
traces.py     ListSpans, GetTrace

A query takes plain values and a `take` that is given row after row until it refuses one: how
many bytes a page may have is known where rows are encoded, in transport.
"""
