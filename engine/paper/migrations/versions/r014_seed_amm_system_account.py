"""The market maker's user and account: fixed id, no password that opens it, netting off (section 6)."""

from alembic import op

from engine.paper.migration import MigrationRefusedError
from engine.paper.model import AMM_EMAIL, AMM_USER_ID, AMM_USERNAME, UNUSABLE_PASSWORD_HASH

revision = "014_seed_amm_system_account"
down_revision = "013_amm_self_trade_constraint"


def upgrade() -> None:
    """Insert both rows, unless the id, the name, the address or the account is somebody's already."""
    taken = op.get_bind().exec_driver_sql(
        "SELECT CASE WHEN id = $1::uuid THEN 'id ' || id WHEN username = $2 THEN 'username ' || username "
        "ELSE 'email ' || email END FROM users WHERE id = $1::uuid OR username = $2 OR email = $3 "
        "UNION ALL SELECT 'account of ' || user_id FROM accounts WHERE user_id = $1::uuid::text",
        (AMM_USER_ID, AMM_USERNAME, AMM_EMAIL),
    )
    if (what := taken.scalars().first()) is not None:
        raise MigrationRefusedError(f"upgrade to {revision}: {what} is taken, the market maker needs it")
    op.get_bind().exec_driver_sql(
        "INSERT INTO users (id, username, email, password_hash) VALUES ($1::uuid, $2, $3, $4)",
        (AMM_USER_ID, AMM_USERNAME, AMM_EMAIL, UNUSABLE_PASSWORD_HASH),
    )
    op.get_bind().exec_driver_sql(
        "INSERT INTO accounts (user_id, auto_netting_enabled) VALUES ($1, false)", (AMM_USER_ID,)
    )


def downgrade() -> None:
    """Remove both rows, unless the account has moved money: the ledger would then name nobody."""
    count = op.get_bind().exec_driver_sql(
        "SELECT (SELECT count(*) FROM ledger_entries WHERE user_id = $1)"
        " + (SELECT count(*) FROM orders WHERE user_id = $1)",
        (AMM_USER_ID,),
    )
    if rows := count.scalar_one():
        raise MigrationRefusedError(
            f"downgrade of {revision}: the market maker has {rows} orders and ledger entries, "
            "an unused account is the rule"
        )
    op.get_bind().exec_driver_sql("DELETE FROM accounts WHERE user_id = $1", (AMM_USER_ID,))
    op.get_bind().exec_driver_sql("DELETE FROM users WHERE id = $1::uuid", (AMM_USER_ID,))
