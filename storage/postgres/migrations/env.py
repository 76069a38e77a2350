"""Alembic's entry: write the steps as SQL for PostgreSQL, without a connection of its own."""

from alembic import context

context.configure(
    dialect_name="postgresql",
    dialect_opts={"paramstyle": "named"},  # else every % in the SQL is doubled
)
context.run_migrations()
