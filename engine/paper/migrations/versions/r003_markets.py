"""Markets: limits, fees, life and pooled money.

Ours are ``amm_approved``, which decides 6009, and ``settle_due_at``, when a RESOLVED market is to be settled.
"""

from alembic import op

revision = "003_markets"
down_revision = "002_accounts"


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE markets (
            id varchar(64) PRIMARY KEY,
            title varchar(500) NOT NULL,
            description text,
            category varchar(64),
            status varchar(20) NOT NULL,
            min_price_cents smallint NOT NULL DEFAULT 1,
            max_price_cents smallint NOT NULL DEFAULT 99,
            max_order_quantity integer NOT NULL DEFAULT 10000,
            max_position_per_user integer NOT NULL DEFAULT 25000,
            max_order_amount_cents bigint NOT NULL DEFAULT 1000000,
            maker_fee_bps smallint NOT NULL DEFAULT 10,
            taker_fee_bps smallint NOT NULL DEFAULT 20,
            amm_approved boolean NOT NULL DEFAULT true,
            trading_start_at timestamptz,
            trading_end_at timestamptz,
            resolution_date timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            resolved_at timestamptz,
            settle_due_at timestamptz,
            settled_at timestamptz,
            resolution_result varchar(10),
            reserve_balance bigint NOT NULL DEFAULT 0,
            pnl_pool bigint NOT NULL DEFAULT 0,
            total_yes_shares bigint NOT NULL DEFAULT 0,
            total_no_shares bigint NOT NULL DEFAULT 0,
            CONSTRAINT ck_markets_status CHECK (
                status IN ('DRAFT', 'ACTIVE', 'SUSPENDED', 'HALTED', 'RESOLVED', 'SETTLED', 'VOIDED')
            ),
            CONSTRAINT ck_markets_prices CHECK (
                1 <= min_price_cents AND min_price_cents < max_price_cents AND max_price_cents <= 99
            ),
            CONSTRAINT ck_markets_limits CHECK (
                max_order_quantity > 0 AND max_position_per_user > 0 AND max_order_amount_cents > 0
            ),
            CONSTRAINT ck_markets_fees CHECK (
                maker_fee_bps BETWEEN 0 AND 1000 AND taker_fee_bps BETWEEN 0 AND 1000
            ),
            CONSTRAINT ck_markets_resolution CHECK (resolution_result IN ('YES', 'NO', 'VOID')),
            CONSTRAINT ck_markets_reserve_not_negative CHECK (reserve_balance >= 0),
            CONSTRAINT ck_markets_shares_not_negative CHECK (total_yes_shares >= 0 AND total_no_shares >= 0),
            CONSTRAINT ck_markets_shares_balanced CHECK (total_yes_shares = total_no_shares),
            CONSTRAINT ck_markets_reserve CHECK (reserve_balance = 100 * total_yes_shares)
        )
        """
    )
    op.execute("CREATE INDEX ix_markets_status ON markets (status)")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE markets")
