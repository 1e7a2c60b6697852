"""Orders: every order that was accepted, on the single YES book."""

from alembic import op

revision = "004_orders"
down_revision = "003_markets"


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE orders (
            id varchar(64) PRIMARY KEY,
            client_order_id varchar(64) NOT NULL,
            market_id varchar(64) NOT NULL,
            user_id varchar(64) NOT NULL,
            original_side varchar(10) NOT NULL,
            original_direction varchar(10) NOT NULL,
            original_price smallint NOT NULL,
            book_type varchar(20) NOT NULL,
            book_direction varchar(10) NOT NULL,
            book_price smallint NOT NULL,
            price_type varchar(10) NOT NULL DEFAULT 'LIMIT',
            time_in_force varchar(10) NOT NULL DEFAULT 'GTC',
            quantity integer NOT NULL,
            filled_quantity integer NOT NULL DEFAULT 0,
            remaining_quantity integer NOT NULL,
            frozen_amount bigint NOT NULL DEFAULT 0,
            frozen_asset_type varchar(20) NOT NULL,
            status varchar(20) NOT NULL,
            cancel_reason varchar(100),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_orders_client_order_id UNIQUE (client_order_id, user_id),
            CONSTRAINT ck_orders_side CHECK (original_side IN ('YES', 'NO')),
            CONSTRAINT ck_orders_direction CHECK (original_direction IN ('BUY', 'SELL')),
            CONSTRAINT ck_orders_original_price CHECK (original_price BETWEEN 1 AND 99),
            CONSTRAINT ck_orders_book_price CHECK (book_price BETWEEN 1 AND 99),
            CONSTRAINT ck_orders_book CHECK (
                (book_type IN ('NATIVE_BUY', 'SYNTHETIC_BUY') AND book_direction = 'BUY')
                OR (book_type IN ('NATIVE_SELL', 'SYNTHETIC_SELL') AND book_direction = 'SELL')
            ),
            CONSTRAINT ck_orders_price_type CHECK (price_type = 'LIMIT'),
            CONSTRAINT ck_orders_time_in_force CHECK (time_in_force IN ('GTC', 'IOC')),
            CONSTRAINT ck_orders_quantity CHECK (
                quantity > 0 AND filled_quantity >= 0 AND remaining_quantity >= 0
                AND filled_quantity + remaining_quantity = quantity
            ),
            CONSTRAINT ck_orders_frozen CHECK (frozen_amount >= 0),
            CONSTRAINT ck_orders_frozen_asset CHECK (
                frozen_asset_type IN ('FUNDS', 'YES_SHARES', 'NO_SHARES')
            ),
            CONSTRAINT ck_orders_status CHECK (status IN ('OPEN', 'PARTIALLY_FILLED', 'FILLED', 'CANCELLED'))
        )
        """
    )
    op.execute("CREATE INDEX ix_orders_user ON orders (user_id, status, created_at DESC)")
    op.execute(
        """
        CREATE INDEX ix_orders_live_by_market ON orders (market_id, created_at)
            WHERE status IN ('OPEN', 'PARTIALLY_FILLED')
        """
    )
    op.execute(
        """
        CREATE INDEX ix_orders_live_by_user ON orders (market_id, user_id, book_direction)
            WHERE status IN ('OPEN', 'PARTIALLY_FILLED')
        """
    )


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE orders")
