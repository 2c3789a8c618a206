"""Roll-ups of samples: minutes of the last 30 days, and hours, of each series.

What was stored before is brought in here. A server of the previous release that still writes
beside this schema adds raw rows without deltas; `rollups rebuild` mends those hours.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FILL = """
INSERT INTO {table} (shard, series_id, {unit}, sample_count, value_sum, value_min, value_max,
    first_time, first_value, last_time, last_value)
SELECT 0, series_id, date_trunc('{unit}', time, 'UTC') AS {unit}, count(*),
    sum(CASE WHEN abs(value) < 1e290 THEN value ELSE sign(value) * float8 'Infinity' END),
    min(value), max(value), min(time), (array_agg(value ORDER BY time, value))[1], max(time),
    (array_agg(value ORDER BY time DESC, value DESC))[1]
FROM metric_samples WHERE time >= date_trunc('hour', now() - interval '{days} days', 'UTC')
GROUP BY series_id, {unit}
"""


def make(table: str, unit: str) -> None:
    op.create_table(
        table,
        sa.Column("series_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column(unit, sa.DateTime(timezone=True), primary_key=True),
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("sample_count", sa.BigInteger(), nullable=False),
        sa.Column("value_sum", sa.Double(), nullable=False),
        sa.Column("value_min", sa.Double(), nullable=False),
        sa.Column("value_max", sa.Double(), nullable=False),
        sa.Column("first_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_value", sa.Double(), nullable=False),
        sa.Column("last_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_value", sa.Double(), nullable=False),
        postgresql_with={"fillfactor": 70},
    )


def upgrade() -> None:
    # However many rows there are: nothing waits for this but the servers that start.
    op.execute("SET LOCAL statement_timeout = 0")
    for table, unit, days in (("sample_minutes", "minute", 30), ("sample_hours", "hour", 400)):
        make(table, unit)
        op.execute(FILL.format(table=table, unit=unit, days=days))
        op.create_index(f"{table}_{unit}_idx", table, [unit])


def downgrade() -> None:
    op.drop_table("sample_hours")
    op.drop_table("sample_minutes")
