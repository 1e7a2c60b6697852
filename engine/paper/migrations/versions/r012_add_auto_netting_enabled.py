"""Whether an account nets its pairs by itself (5.8): all but the market maker's do."""

from alembic import op

revision = "012_add_auto_netting_enabled"
down_revision = "011_updated_at_and_accounts"


def upgrade() -> None:
    """Add the flag, on for every account there is."""
    op.execute("ALTER TABLE accounts ADD COLUMN auto_netting_enabled boolean NOT NULL DEFAULT true")


def downgrade() -> None:
    """Drop the flag."""
    op.execute("ALTER TABLE accounts DROP COLUMN auto_netting_enabled")
