"""The Celery application: `celery -A celery_app worker` runs the engine with all registered steps."""

from __future__ import annotations

from pipeline import tasks
from workflows.engine import logs
from workflows.engine.app import make_app
from workflows.engine.worker import make_runtime
from workflows.scheduling.beat import install_beat
from workflows.settings import Config

config = Config.from_env()
logs.attend_celery(config)
app = make_app(config)
app.set_current()
app.set_default()
runtime = make_runtime(config, app)
install_beat(app, runtime)
tasks.install(app, runtime)
