"""Event roll-up: hours of events, their names, and durations of deltas as sparse histograms.

What was stored before is brought in here. A server of the previous release that still writes
beside this schema adds raw rows without deltas; summaries of those hours lack them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

EVENT_TYPE = postgresql.ENUM(name="event_type", create_type=False)

FILL_NAMES = """
INSERT INTO event_hour_names (shard, hour, license_id, event_name)
SELECT 0, hour, license_id, event_name
FROM (
    SELECT hour, license_id, event_name,
        row_number() OVER (PARTITION BY hour, license_id ORDER BY event_name) AS place
    FROM (
        SELECT DISTINCT date_trunc('hour', event_timestamp, 'UTC') AS hour,
            coalesce(license_id, '') AS license_id, event_name
        FROM telemetry_events
    ) AS met
) AS placed
WHERE place <= 1000
"""

FILL_HOURS = """
WITH met AS (
    SELECT date_trunc('hour', e.event_timestamp, 'UTC') AS hour, e.event_type,
        coalesce(e.event_category, '') AS event_category,
        coalesce(n.event_name, '__other__') AS event_name,
        coalesce(e.license_id, '') AS license_id, coalesce(e.source, '') AS source,
        CASE WHEN e.duration_ms > 0 THEN ceil(ln(e.duration_ms) / ln(1.04::float8))::smallint
            WHEN e.duration_ms IS NOT NULL THEN (-32768)::smallint END AS bucket,
        count(*) AS event_count, count(e.duration_ms) AS duration_count,
        coalesce(sum(e.duration_ms), 0) AS duration_sum
    FROM telemetry_events e
    LEFT JOIN event_hour_names n ON n.shard = 0
        AND n.hour = date_trunc('hour', e.event_timestamp, 'UTC')
        AND n.license_id = coalesce(e.license_id, '') AND n.event_name = e.event_name
    GROUP BY 1, 2, 3, 4, 5, 6, 7
)
INSERT INTO event_hours (shard, hour, license_id, event_type, event_category, event_name, source,
    event_count, duration_count, duration_sum, duration_buckets, duration_counts)
SELECT 0, hour, license_id, event_type, event_category, event_name, source,
    sum(event_count)::bigint, sum(duration_count)::bigint, sum(duration_sum),
    coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}'),
    coalesce(array_agg(event_count ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}')
FROM met
GROUP BY 2, 3, 4, 5, 6, 7
"""


def upgrade() -> None:
    op.add_column(
        "event_deltas",
        sa.Column("duration_buckets", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
    )
    op.add_column(
        "event_deltas",
        sa.Column("duration_counts", postgresql.ARRAY(sa.BigInteger()), nullable=False),
    )
    op.create_table(
        "event_hours",
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("license_id", sa.Text(), primary_key=True),
        sa.Column("event_type", EVENT_TYPE, primary_key=True),
        sa.Column("event_category", sa.Text(), primary_key=True),
        sa.Column("event_name", sa.Text(), primary_key=True),
        sa.Column("source", sa.Text(), primary_key=True),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_count", sa.BigInteger(), nullable=False),
        sa.Column("duration_sum", sa.Double(), nullable=False),
        sa.Column("duration_buckets", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("duration_counts", postgresql.ARRAY(sa.BigInteger()), nullable=False),
    )
    op.create_table(
        "event_hour_names",
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("license_id", sa.Text(), primary_key=True),
        sa.Column("event_name", sa.Text(), primary_key=True),
    )
    # However many rows there are: nothing waits for this but the servers that start.
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute(FILL_NAMES)
    op.execute(FILL_HOURS)


def downgrade() -> None:
    # They came with this release (migrations/idempotent), and stand on tables that go.
    op.execute(
        "DROP VIEW IF EXISTS telemetry_events_hourly_summary, system_metrics_service_summary,"
        " business_metrics_category_summary, alerts_status_summary"
    )
    op.execute("DROP FUNCTION IF EXISTS partition_hours, partitions_begin")
    op.drop_table("event_hour_names")
    op.drop_table("event_hours")
    op.drop_column("event_deltas", "duration_counts")
    op.drop_column("event_deltas", "duration_buckets")
