"""`uvicorn api.server:app`."""

from __future__ import annotations

from api.application import create_app

app = create_app()
