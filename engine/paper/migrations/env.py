"""Runs revisions on the one connection it is handed, all of them in one transaction.

Whoever asks for several revisions gets all of them or none: a refusal half-way leaves the database as it was.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
