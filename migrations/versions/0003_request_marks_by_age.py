"""Index request marks by their age: they are deleted after 7 days.

Forward-safe with the previous release; frozen once merged.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("request_marks_created_at_idx", "request_marks", ["created_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("request_marks_created_at_idx", table_name="request_marks")
