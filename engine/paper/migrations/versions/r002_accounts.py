"""Accounts: cash of each user, in cents."""

from alembic import op

revision = "002_accounts"
down_revision = "001_users"


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE accounts (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            user_id varchar(64) NOT NULL,
            available_balance bigint NOT NULL DEFAULT 0,
            frozen_balance bigint NOT NULL DEFAULT 0,
            version bigint NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_accounts_user_id UNIQUE (user_id),
            CONSTRAINT ck_accounts_available CHECK (available_balance >= 0),
            CONSTRAINT ck_accounts_frozen CHECK (frozen_balance >= 0)
        )
        """
    )


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE accounts")
