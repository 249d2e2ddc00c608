"""Alembic's entry for the research tables."""

from workflows.db.migrate import run_env

run_env(version_table="pipeline_schema_version")
