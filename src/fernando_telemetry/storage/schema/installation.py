"""What this database is: one row."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Table, Text, Uuid, text

from fernando_telemetry.storage.schema.columns import Time, metadata

installation = Table(
    "installation",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("installation_id", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
    Column("installed_at", Time, nullable=False, server_default=text("now()")),
    # Digest of the functions and views that were applied last (migrations/idempotent).
    Column("idempotent_digest", Text, nullable=False, server_default=text("''")),
    CheckConstraint("only_row", name="only_row"),
)
