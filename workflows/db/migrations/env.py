"""Alembic's entry for the engine's tables."""

from workflows.db.migrate import run_env

run_env(version_table="celeriac_schema_version")
