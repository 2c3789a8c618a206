"""Roll-up of spans: minutes of the last 30 days by licence, service and operation.

What was stored before is brought in here. A server of the previous release that still writes
beside this schema adds raw rows without deltas; `rollups rebuild` mends those hours.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

FILL = """
WITH met AS (
    SELECT date_trunc('minute', start_time, 'UTC') AS minute,
        coalesce(license_id, '') AS license_id, service_name,
        coalesce(operation_name, '') AS operation_name,
        CASE WHEN duration_ms > 0 THEN ceil(ln(duration_ms) / ln(1.04::float8))::smallint
            WHEN duration_ms IS NOT NULL THEN (-32768)::smallint END AS bucket,
        count(*) AS span_count, count(*) FILTER (WHERE status = 'error') AS error_count,
        count(duration_ms) AS duration_count, coalesce(sum(duration_ms), 0) AS duration_sum
    FROM traces
    WHERE start_time >= date_trunc('hour', now() - interval '30 days', 'UTC')
    GROUP BY 1, 2, 3, 4, 5
)
INSERT INTO span_minutes (shard, minute, license_id, service_name, operation_name, span_count,
    error_count, duration_count, duration_sum, duration_buckets, duration_counts)
SELECT 0, minute, license_id, service_name, operation_name, sum(span_count)::bigint,
    sum(error_count)::bigint, sum(duration_count)::bigint, sum(duration_sum),
    coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}'),
    coalesce(array_agg(span_count ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}')
FROM met
GROUP BY minute, license_id, service_name, operation_name
"""
ADDED = (
    ("duration_count", sa.BigInteger()),
    ("duration_buckets", postgresql.ARRAY(sa.SmallInteger())),
    ("duration_counts", postgresql.ARRAY(sa.BigInteger())),
)


def upgrade() -> None:
    # Nobody has written deltas of spans yet.
    for name, kind in ADDED:
        op.add_column("span_deltas", sa.Column(name, kind, nullable=False))
    op.create_table(
        "span_minutes",
        sa.Column("minute", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("license_id", sa.Text(), primary_key=True),
        sa.Column("service_name", sa.Text(), primary_key=True),
        sa.Column("operation_name", sa.Text(), primary_key=True),
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("span_count", sa.BigInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_sum", sa.Double(), nullable=False),
        sa.Column("duration_buckets", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("duration_counts", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        postgresql_with={"fillfactor": 70},
    )
    # However many rows there are: nothing waits for this but the servers that start.
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute(FILL)


def downgrade() -> None:
    # It came with this release (migrations/idempotent), and stands on tables that go.
    op.execute("DROP VIEW IF EXISTS trace_performance_summary")
    op.drop_table("span_minutes")
    for name, _ in reversed(ADDED):
        op.drop_column("span_deltas", name)
