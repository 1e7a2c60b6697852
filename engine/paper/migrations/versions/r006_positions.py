"""Positions: shares of each user in each market, with their cumulative cost."""

from alembic import op

revision = "006_positions"
down_revision = "005_trades"


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE positions (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            user_id varchar(64) NOT NULL,
            market_id varchar(64) NOT NULL,
            yes_volume integer NOT NULL DEFAULT 0,
            yes_cost_sum bigint NOT NULL DEFAULT 0,
            yes_pending_sell integer NOT NULL DEFAULT 0,
            no_volume integer NOT NULL DEFAULT 0,
            no_cost_sum bigint NOT NULL DEFAULT 0,
            no_pending_sell integer NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_positions_user_market UNIQUE (user_id, market_id),
            CONSTRAINT ck_positions_yes CHECK (
                yes_volume >= 0 AND yes_cost_sum >= 0 AND yes_pending_sell BETWEEN 0 AND yes_volume
            ),
            CONSTRAINT ck_positions_no CHECK (
                no_volume >= 0 AND no_cost_sum >= 0 AND no_pending_sell BETWEEN 0 AND no_volume
            )
        )
        """
    )


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE positions")
