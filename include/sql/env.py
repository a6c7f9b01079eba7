"""Alembic's entry point: runs the revisions on the connection of `include.store.migrate`, in its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
