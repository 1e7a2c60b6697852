"""Steps of orders, for audit only; nothing is rebuilt from them."""

from alembic import op

revision = "008_wal_events"
down_revision = "007_ledger_entries"


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE wal_events (
            id bigserial PRIMARY KEY,
            market_id varchar(64) NOT NULL,
            event_type varchar(30) NOT NULL,
            payload jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_wal_event_type CHECK (
                event_type IN (
                    'ORDER_ACCEPTED', 'ORDER_MATCHED', 'ORDER_PARTIALLY_FILLED', 'ORDER_CANCELLED',
                    'ORDER_EXPIRED'
                )
            )
        )
        """
    )
    op.execute("CREATE INDEX ix_wal_market ON wal_events (market_id, id)")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE wal_events")
