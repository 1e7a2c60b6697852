"""Users: who can log in."""

from alembic import op

revision = "001_users"
down_revision = None


def upgrade() -> None:
    """Create it."""
    op.execute(
        """
        CREATE TABLE users (
            id uuid PRIMARY KEY,
            username varchar(64) NOT NULL,
            email varchar(255) NOT NULL,
            password_hash varchar(255) NOT NULL,
            is_active boolean NOT NULL DEFAULT true,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_users_username UNIQUE (username),
            CONSTRAINT uq_users_email UNIQUE (email),
            CONSTRAINT ck_users_username_length CHECK (length(username) >= 3)
        )
        """
    )


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE users")
