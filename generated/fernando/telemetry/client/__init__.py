"""A client of the ingest service, written by hand over the generated stubs.

producer.py    TelemetryProducer: a stream that reconnects, resends and never drops
batching.py    TelemetryBuffer: single records in, batches out
records.py     builders of records from plain Python values
errors.py      what can go wrong, with the server's details
receipts.py    what a send becomes: Receipt, then Acknowledgement
stream.py, status.py, pending.py, splitting.py, backoff.py    the producer's parts
"""

from fernando.telemetry.client.backoff import Backoff
from fernando.telemetry.client.batching import TelemetryBuffer, TelemetryRecord
from fernando.telemetry.client.errors import (
    FieldViolation,
    ProducerClosed,
    ProducerFenced,
    RpcFailed,
    StreamCut,
    TelemetryError,
    decode_error,
)
from fernando.telemetry.client.producer import CHANNEL_OPTIONS, TelemetryProducer
from fernando.telemetry.client.receipts import Acknowledgement, Receipt
from fernando.telemetry.client.records import (
    NaiveDatetimeWarning,
    business_metric,
    event,
    json_text,
    span,
    system_metric,
    timestamp,
)

__all__ = [
    "CHANNEL_OPTIONS",
    "Acknowledgement",
    "Backoff",
    "FieldViolation",
    "NaiveDatetimeWarning",
    "ProducerClosed",
    "ProducerFenced",
    "Receipt",
    "RpcFailed",
    "StreamCut",
    "TelemetryBuffer",
    "TelemetryError",
    "TelemetryProducer",
    "TelemetryRecord",
    "business_metric",
    "decode_error",
    "event",
    "json_text",
    "span",
    "system_metric",
    "timestamp",
]
