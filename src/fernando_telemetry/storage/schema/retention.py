"""How long records live where it is not as the settings say (storage/retention_policies.py)."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, Text, text

from fernando_telemetry.storage.schema.columns import Time, metadata, required

retention_policies = Table(
    "retention_policies",
    metadata,
    Column("kind", Text, primary_key=True),
    # '' for all without one of their own: keys have no NULL.
    Column("license_id", Text, primary_key=True),
    # 0: for ever.
    required("days", Integer),
    Column("updated_at", Time, nullable=False, server_default=text("now()")),
)
