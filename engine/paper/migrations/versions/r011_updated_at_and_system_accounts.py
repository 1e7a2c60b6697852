"""updated_at by trigger, and the accounts that belong to nobody: SYSTEM_RESERVE and PLATFORM_FEE."""

from alembic import op

revision = "011_updated_at_and_accounts"
down_revision = "010_exchange_journal"

_TABLES = ("users", "accounts", "markets", "orders", "positions")


def upgrade() -> None:
    """Stamp every change that does not bring its own time, and open the two accounts."""
    op.execute(
        """
        CREATE FUNCTION stamp_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.updated_at := now();
            RETURN NEW;
        END $$
        """
    )
    for table in _TABLES:
        op.execute(
            f"""
            CREATE TRIGGER {table}_updated_at BEFORE UPDATE ON {table} FOR EACH ROW
                WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at)
                EXECUTE FUNCTION stamp_updated_at()
            """
        )
    op.execute("INSERT INTO accounts (user_id) VALUES ('SYSTEM_RESERVE'), ('PLATFORM_FEE')")


def downgrade() -> None:
    """Drop the triggers; accounts that have moved stay."""
    op.execute("DELETE FROM accounts WHERE user_id IN ('SYSTEM_RESERVE', 'PLATFORM_FEE') AND version = 0")
    for table in _TABLES:
        op.execute(f"DROP TRIGGER {table}_updated_at ON {table}")
    op.execute("DROP FUNCTION stamp_updated_at()")
