"""Users of events by hour: sketches (domain/user_sketch.py), with what was stored before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

EVENT_TYPE = postgresql.ENUM(name="event_type", create_type=False)

FILL_HOURS = """
WITH hashed AS (
    SELECT DISTINCT date_trunc('hour', event_timestamp, 'UTC') AS hour,
        coalesce(license_id, '') AS license_id, event_type,
        coalesce(event_category, '') AS event_category,
        ('x' || left(encode(sha256(convert_to(user_id, 'UTF8')), 'hex'), 12))::bit(48)::bigint
            AS hash
    FROM telemetry_events
    WHERE user_id IS NOT NULL
), placed AS (
    SELECT hour, license_id, event_type, event_category,
        (9 - width_bucket(hash >> 38, ARRAY[2, 4, 8, 16, 32, 64, 128, 256, 512]::bigint[])) * 3328
            + ((hash & 274877906943) % 3328)::integer AS place
    FROM hashed
), words AS (
    SELECT hour, license_id, event_type, event_category, (place / 64)::smallint AS word,
        bit_or(1::bigint << (place % 64)) AS bits
    FROM placed
    GROUP BY hour, license_id, event_type, event_category, place / 64
)
INSERT INTO event_user_hours (shard, hour, license_id, event_type, event_category, user_words,
    user_bits)
SELECT 0, hour, license_id, event_type, event_category, array_agg(word ORDER BY word),
    array_agg(bits ORDER BY word)
FROM words
GROUP BY hour, license_id, event_type, event_category
"""

FILL_TYPE_HOURS = """
INSERT INTO event_type_user_hours (shard, hour, event_type, user_words, user_bits)
SELECT 0, hour, event_type, array_agg(word ORDER BY word), array_agg(bits ORDER BY word)
FROM (
    SELECT hour, event_type, word, bit_or(bits) AS bits
    FROM event_user_hours, unnest(user_words, user_bits) AS u (word, bits)
    GROUP BY hour, event_type, word
) AS words
GROUP BY hour, event_type
"""


def _user_bits() -> list[sa.Column[object]]:
    return [
        sa.Column("user_words", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("user_bits", postgresql.ARRAY(sa.BigInteger()), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "event_user_deltas",
        sa.Column("flushed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_type", EVENT_TYPE, nullable=False),
        sa.Column("event_category", sa.Text(), nullable=False),
        sa.Column("license_id", sa.Text(), nullable=False),
        *_user_bits(),
        postgresql_partition_by="RANGE (flushed_at)",
    )
    op.execute("ALTER TABLE event_user_deltas REPLICA IDENTITY FULL")
    op.create_table(
        "event_user_hours",
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("license_id", sa.Text(), primary_key=True),
        sa.Column("event_type", EVENT_TYPE, primary_key=True),
        sa.Column("event_category", sa.Text(), primary_key=True),
        *_user_bits(),
    )
    op.create_table(
        "event_type_user_hours",
        sa.Column("shard", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("event_type", EVENT_TYPE, primary_key=True),
        *_user_bits(),
    )
    # However many rows there are: nothing waits for this but the servers that start.
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute(FILL_HOURS)
    op.execute(FILL_TYPE_HOURS)


def downgrade() -> None:
    op.execute("DROP FUNCTION IF EXISTS user_place")
    op.drop_table("event_type_user_hours")
    op.drop_table("event_user_hours")
    op.drop_table("event_user_deltas")
