"""Series counts: the cardinality limit per metric and licence.

Forward-safe with the previous release, which neither reads nor writes them: series it makes are
counted at the next day's count.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "series_counts",
        sa.Column("metric_name", sa.Text(), primary_key=True),
        sa.Column("license_id", sa.Text(), primary_key=True),
        sa.Column("counted_on", sa.Date(), nullable=False),
        sa.Column("series_count", sa.Integer(), nullable=False),
        sa.Column("label_ranking", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("ranked_on", sa.Date(), nullable=True),
        sa.Column("ranked_count", sa.Integer(), nullable=True),
    )
    op.create_index(
        "metric_series_metric_license_idx", "metric_series", ["metric_name", "license_id"]
    )


def downgrade() -> None:
    op.drop_index("metric_series_metric_license_idx", table_name="metric_series")
    op.drop_table("series_counts")
