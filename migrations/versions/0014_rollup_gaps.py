"""Hours with rows that no delta tells of, so that readers add them from raw rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollup_gaps",
        sa.Column("rollup", sa.Text(), primary_key=True),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("lane", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("first_flush_id", sa.BigInteger(), nullable=False),
        sa.Column("last_flush_id", sa.BigInteger(), nullable=False),
        postgresql_with={"fillfactor": 50},
    )


def downgrade() -> None:
    # It reads the table, and the release before makes its own when it starts.
    op.execute("DROP VIEW IF EXISTS trace_performance_summary")
    op.drop_table("rollup_gaps")
