"""The read path: what a request asks for, read in one snapshot of the database.

pages.py      what every list is asked with, and how a page is filled
events.py     ListEvents, SummarizeEvents
metrics.py    ListSystemMetrics, ListMetricSeries, QuerySystemMetrics, and KPIs
traces.py     ListSpans, SearchTraces, GetTrace, GetServiceGraph; shown_traces.py keeps the trees of
              large traces from page to page
tails.py      TailEvents: tail_reader.py reads for open_tails.py, a tail_look.py at a time, into a
              tail_buffer.py each
export.py     ExportRecords: export_run.py by time or by flush, export_chunks.py in a format
rejected.py   kept rejected records; retention.py the policies

A query takes plain values and a `take` that is given row after row until it refuses one: how
many bytes a page may have is known where rows are encoded, in transport.
"""
