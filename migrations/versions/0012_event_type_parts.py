"""What a summary by hour and type needs of arrays, computed when they are written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Stored values come of these two, so they never change; a new computation needs new names.
PERCENTILE = """
CREATE FUNCTION histogram_percentile_bucket(buckets smallint[], counts bigint[], share float8)
RETURNS smallint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT bucket
    FROM (
        SELECT bucket, sum(amount) OVER (ORDER BY bucket) AS through, sum(amount) OVER () AS total
        FROM unnest(buckets, counts) AS h (bucket, amount)
    ) AS running
    WHERE through >= ceil(share * total)
    ORDER BY bucket LIMIT 1
$$
"""
SET_BITS = """
CREATE FUNCTION user_sketch_set_bits(words smallint[], bits bigint[])
RETURNS smallint[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT array_agg(coalesce(amount, 0)::smallint ORDER BY component)
    FROM generate_series(0, 9) AS component
    LEFT JOIN (
        SELECT word / 52 AS component, sum(bit_count(part::bit(64))) AS amount
        FROM unnest(words, bits) AS s (word, part)
        GROUP BY word / 52
    ) AS amounts USING (component)
$$
"""


def upgrade() -> None:
    op.execute(PERCENTILE)
    op.execute(SET_BITS)
    # However many rows there are: nothing waits for this but the servers that start.
    op.execute("SET LOCAL statement_timeout = 0")
    op.add_column(
        "event_type_hours",
        sa.Column(
            "p95_bucket",
            sa.SmallInteger(),
            sa.Computed(
                "histogram_percentile_bucket(duration_buckets, duration_counts, 0.95)",
                persisted=True,
            ),
        ),
    )
    op.add_column(
        "event_type_user_hours",
        sa.Column(
            "set_bits",
            postgresql.ARRAY(sa.SmallInteger()),
            sa.Computed("user_sketch_set_bits(user_words, user_bits)", persisted=True),
        ),
    )


def downgrade() -> None:
    op.drop_column("event_type_user_hours", "set_bits")
    op.drop_column("event_type_hours", "p95_bucket")
    op.execute("DROP FUNCTION user_sketch_set_bits(smallint[], bigint[])")
    op.execute("DROP FUNCTION histogram_percentile_bucket(smallint[], bigint[], float8)")
