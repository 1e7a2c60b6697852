"""Trades: every fill, and the audit rows of mint and burn; a user never trades with itself."""

from alembic import op

revision = "005_trades"
down_revision = "004_orders"


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE trades (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            trade_id varchar(64) NOT NULL,
            market_id varchar(64) NOT NULL,
            scenario varchar(20) NOT NULL,
            buy_order_id varchar(64) NOT NULL,
            sell_order_id varchar(64) NOT NULL,
            buy_user_id varchar(64) NOT NULL,
            sell_user_id varchar(64) NOT NULL,
            buy_book_type varchar(20) NOT NULL,
            sell_book_type varchar(20) NOT NULL,
            price smallint NOT NULL,
            quantity integer NOT NULL,
            maker_order_id varchar(64) NOT NULL,
            taker_order_id varchar(64) NOT NULL,
            maker_fee bigint NOT NULL DEFAULT 0,
            taker_fee bigint NOT NULL DEFAULT 0,
            buy_realized_pnl bigint,
            sell_realized_pnl bigint,
            executed_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_trades_trade_id UNIQUE (trade_id),
            CONSTRAINT ck_trades_scenario CHECK (scenario IN ('MINT', 'TRANSFER_YES', 'TRANSFER_NO', 'BURN')),
            CONSTRAINT ck_trades_buy_type CHECK (buy_book_type IN ('NATIVE_BUY', 'SYNTHETIC_BUY')),
            CONSTRAINT ck_trades_sell_type CHECK (sell_book_type IN ('NATIVE_SELL', 'SYNTHETIC_SELL')),
            CONSTRAINT ck_trades_price CHECK (price BETWEEN 1 AND 99),
            CONSTRAINT ck_trades_quantity CHECK (quantity > 0),
            CONSTRAINT ck_trades_fees CHECK (maker_fee >= 0 AND taker_fee >= 0),
            CONSTRAINT ck_trades_diff_users CHECK (buy_user_id <> sell_user_id)
        )
        """
    )
    op.execute("CREATE INDEX ix_trades_buy_user ON trades (buy_user_id, executed_at DESC)")
    op.execute("CREATE INDEX ix_trades_sell_user ON trades (sell_user_id, executed_at DESC)")
    op.execute("CREATE INDEX ix_trades_market_time ON trades (market_id, executed_at DESC)")
    op.execute("CREATE INDEX ix_trades_market_scenario ON trades (market_id, scenario)")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE trades")
