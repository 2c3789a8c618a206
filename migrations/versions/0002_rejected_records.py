"""Rejected records: what got a verdict instead of being stored.

Forward-safe with the previous release; frozen once merged.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rejected_records",
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("rejected_id", sa.Uuid(), nullable=False),
        sa.Column("rejected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("field_path", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("producer_id", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("license_id", sa.Text(), nullable=True),
        sa.Column("defaults", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "rejected_id", name=op.f("rejected_records_pkey")),
    )
    op.create_index(
        "rejected_records_rejected_at_idx",
        "rejected_records",
        ["rejected_at", "rejected_id"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index("rejected_records_rejected_at_idx", table_name="rejected_records")
    op.drop_table("rejected_records")
