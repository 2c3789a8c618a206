"""Calls from service to service by ten minutes, worked out from raw spans by the leader."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "service_edges",
        sa.Column("chunk_start", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("license_id", sa.Text(), primary_key=True),
        sa.Column("client_service_name", sa.Text(), primary_key=True),
        sa.Column("server_service_name", sa.Text(), primary_key=True),
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("call_count", sa.BigInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_buckets", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("duration_counts", postgresql.ARRAY(sa.BigInteger()), nullable=False),
    )
    op.create_table(
        "service_edge_chunks",
        sa.Column("chunk_start", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.Uuid(), nullable=False),
        sa.Column("is_computed", sa.Boolean(), nullable=False),
    )


def downgrade() -> None:
    # They came with this release (migrations/idempotent).
    op.execute("DROP FUNCTION IF EXISTS service_calls")
    op.execute("DROP FUNCTION IF EXISTS service_calls_trace")
    op.drop_table("service_edge_chunks")
    op.drop_table("service_edges")
