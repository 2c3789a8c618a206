"""Events by hour and type alone, put together from the groups that are kept by the hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

EVENT_TYPE = postgresql.ENUM(name="event_type", create_type=False)

FILL = """
WITH sums AS (
    SELECT shard, hour, event_type, sum(event_count)::bigint AS event_count,
        sum(duration_count)::bigint AS duration_count, sum(duration_sum) AS duration_sum
    FROM event_hours
    GROUP BY shard, hour, event_type
), buckets AS (
    SELECT shard, hour, event_type, bucket, sum(amount)::bigint AS amount
    FROM event_hours, unnest(duration_buckets, duration_counts) AS u (bucket, amount)
    GROUP BY shard, hour, event_type, bucket
), histograms AS (
    SELECT shard, hour, event_type, array_agg(bucket ORDER BY bucket) AS duration_buckets,
        array_agg(amount ORDER BY bucket) AS duration_counts
    FROM buckets
    GROUP BY shard, hour, event_type
)
INSERT INTO event_type_hours (shard, hour, event_type, event_count, duration_count, duration_sum,
    duration_buckets, duration_counts)
SELECT shard, hour, event_type, event_count, duration_count, duration_sum,
    coalesce(duration_buckets, '{}'), coalesce(duration_counts, '{}')
FROM sums LEFT JOIN histograms USING (shard, hour, event_type)
"""


def upgrade() -> None:
    op.create_table(
        "event_type_hours",
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("event_type", EVENT_TYPE, primary_key=True),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_sum", sa.Float(53), nullable=False),
        sa.Column("duration_buckets", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("duration_counts", postgresql.ARRAY(sa.BigInteger()), nullable=False),
    )
    # However many rows there are: nothing waits for this but the servers that start.
    op.execute("SET LOCAL statement_timeout = 0")
    # Nothing is folded meanwhile by a server of the release before, which would not fold in here.
    op.execute("LOCK TABLE event_hours IN SHARE MODE")
    op.execute(FILL)


def downgrade() -> None:
    op.drop_table("event_type_hours")
