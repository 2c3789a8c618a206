"""Indexes for cursors and tokens: flushes by lane and number, and lanes that are not closed.

Forward-safe with the previous release: only indexes. Building them locks out flushes for as long
as 30 days of their notes take to be indexed (seconds for millions).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("flushes_flush_id_idx", "flushes", ["flush_id"])
    op.create_index(
        "lanes_open_idx", "lanes", ["lane"], postgresql_where=sa.text("last_number IS NULL")
    )


def downgrade() -> None:
    op.drop_index("lanes_open_idx", table_name="lanes")
    op.drop_index("flushes_flush_id_idx", table_name="flushes")
