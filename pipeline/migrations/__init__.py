"""Migration history of the research tables (Alembic)."""
