"""Putting a process of the engine together."""

from __future__ import annotations

from workflows.db.database import Database
from workflows.engine.app import make_app
from workflows.engine.runtime import Runtime
from workflows.engine.secrets import hide_in_logs
from workflows.engine.signing import SigningApp, signer_of_database
from workflows.engine.tasks import install
from workflows.engine.upkeep_tasks import install_upkeep
from workflows.settings import Config
from workflows.steps.registry import load_steps


def make_runtime(config: Config, app: SigningApp | None = None) -> Runtime:
    """A runtime with all steps loaded and the engine's tasks installed on its application."""
    celery = app or make_app(config)
    database = Database(config.database_url)
    celery.signer = signer_of_database(database)
    runtime = Runtime(config, database, celery, load_steps(config.step_modules))
    hide_in_logs(runtime.secrets.redact)
    install(celery, runtime)
    install_upkeep(celery, runtime)
    return runtime
