"""What the exchange itself keeps beside the contract's tables: journal, outbox, supply keys, AMM runs."""

from alembic import op

revision = "010_exchange_journal"
down_revision = "009_circuit_breaker_events"


def upgrade() -> None:
    """Create them."""
    op.execute(
        """
        CREATE TABLE journal_commits (
            number bigint PRIMARY KEY,
            first_sequence bigint NOT NULL,
            last_sequence bigint NOT NULL,
            next_id bigint NOT NULL,
            next_ledger_id bigint NOT NULL,
            at_unix_ns bigint NOT NULL,
            entries json NOT NULL,
            CONSTRAINT uq_journal_last_sequence UNIQUE (last_sequence)
        )
        """
    )
    # Entries are written once and read whole: compressing each of them would cost more than it saves.
    op.execute("ALTER TABLE journal_commits ALTER entries SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE journal_commits SET (toast_tuple_target = 8160)")
    op.execute(
        """
        CREATE TABLE outbox (
            event_id varchar(64) PRIMARY KEY,
            sequence bigint NOT NULL,
            topic varchar(32) NOT NULL,
            market_id varchar(64) NOT NULL,
            payload json NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_outbox_topic CHECK (topic IN ('trade_events', 'order_events', 'market_events'))
        )
        """
    )
    op.execute("CREATE INDEX ix_outbox_waiting ON outbox (sequence)")
    op.execute(
        """
        CREATE TABLE supply_keys (
            kind varchar(30) NOT NULL,
            key varchar(64) NOT NULL,
            market_id varchar(64) NOT NULL,
            quantity integer NOT NULL,
            value_cents bigint NOT NULL,
            new_yes_inventory integer NOT NULL,
            new_no_inventory integer NOT NULL,
            remaining_balance_cents bigint NOT NULL,
            PRIMARY KEY (kind, key),
            CONSTRAINT ck_supply_kind CHECK (kind IN ('AMM_MINT', 'AMM_BURN'))
        )
        """
    )
    op.execute(
        """
        CREATE TABLE amm_runs (
            market_id varchar(64) PRIMARY KEY,
            running boolean NOT NULL,
            changed_at timestamptz NOT NULL
        )
        """
    )


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TABLE amm_runs")
    op.execute("DROP TABLE supply_keys")
    op.execute("DROP TABLE outbox")
    op.execute("DROP TABLE journal_commits")
