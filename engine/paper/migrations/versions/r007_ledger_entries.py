"""Ledger: every movement of available cash. ``market_id`` is ours: the filter of GET /account/ledger."""

from alembic import op

revision = "007_ledger_entries"
down_revision = "006_positions"


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE ledger_entries (
            id bigserial PRIMARY KEY,
            user_id varchar(64) NOT NULL,
            entry_type varchar(30) NOT NULL,
            amount bigint NOT NULL,
            balance_after bigint NOT NULL,
            reference_type varchar(30),
            reference_id varchar(64),
            description text,
            created_at timestamptz NOT NULL DEFAULT now(),
            market_id varchar(64),
            CONSTRAINT ck_ledger_balance_after CHECK (balance_after >= 0),
            CONSTRAINT ck_ledger_entry_type CHECK (
                entry_type IN (
                    'DEPOSIT', 'WITHDRAW', 'ORDER_FREEZE', 'ORDER_UNFREEZE', 'MINT_COST', 'MINT_RESERVE_IN',
                    'BURN_REVENUE', 'BURN_RESERVE_OUT', 'TRANSFER_PAYMENT', 'TRANSFER_RECEIPT', 'NETTING',
                    'NETTING_RESERVE_OUT', 'FEE', 'FEE_REVENUE', 'SETTLEMENT_PAYOUT', 'SETTLEMENT_VOID'
                )
            ),
            CONSTRAINT ck_ledger_reference_type CHECK (
                reference_type IN ('ORDER', 'TRADE', 'MARKET', 'DEPOSIT', 'WITHDRAW', 'AMM_MINT', 'AMM_BURN')
            )
        )
        """
    )
    op.execute("CREATE INDEX ix_ledger_user ON ledger_entries (user_id, id DESC)")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE ledger_entries")
