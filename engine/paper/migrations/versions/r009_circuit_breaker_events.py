"""Why a market was halted by the exchange itself."""

from alembic import op

revision = "009_circuit_breaker_events"
down_revision = "008_wal_events"


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE circuit_breaker_events (
            id bigserial PRIMARY KEY,
            market_id varchar(64) NOT NULL,
            trigger_reason text NOT NULL,
            context jsonb NOT NULL DEFAULT '{}',
            resolved_at timestamptz,
            resolved_by varchar(64),
            resolution_note text,
            triggered_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX ix_circuit_breaker_market ON circuit_breaker_events (market_id, id)")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE circuit_breaker_events")
