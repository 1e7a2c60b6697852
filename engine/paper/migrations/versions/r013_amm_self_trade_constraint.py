"""The market maker may trade with itself (5.7): ``ck_trades_diff_users`` excepts a configured set of ids."""

from alembic import context, op

from engine.paper.migration import SELF_TRADE_EXEMPT, MigrationRefusedError

revision = "013_amm_self_trade_constraint"
down_revision = "012_add_auto_netting_enabled"


def upgrade() -> None:
    """Relax the constraint for the exempt ids."""
    exempt = context.config.attributes[SELF_TRADE_EXEMPT]
    # An id is letters, digits, _ and - (1.1), so quoting it is all that is needed.
    ids = ", ".join(f"'{user_id}'" for user_id in exempt)
    op.execute("ALTER TABLE trades DROP CONSTRAINT ck_trades_diff_users")
    op.execute(
        "ALTER TABLE trades ADD CONSTRAINT ck_trades_diff_users "
        f"CHECK (buy_user_id <> sell_user_id OR buy_user_id IN ({ids}))"
    )


def downgrade() -> None:
    """Restore the strict constraint, unless rows break it."""
    count = op.get_bind().exec_driver_sql("SELECT count(*) FROM trades WHERE buy_user_id = sell_user_id")
    if self_trades := count.scalar_one():
        raise MigrationRefusedError(
            f"downgrade of {revision}: {self_trades} trades of a user with itself are stored, "
            "the constraint it restores allows none"
        )
    op.execute("ALTER TABLE trades DROP CONSTRAINT ck_trades_diff_users")
    op.execute("ALTER TABLE trades ADD CONSTRAINT ck_trades_diff_users CHECK (buy_user_id <> sell_user_id)")
