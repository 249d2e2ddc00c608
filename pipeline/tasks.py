"""The Celery task `process_papers` of the first system: its message starts a run for some papers."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import Celery, Task

from workflows.catalogue import Catalogue, Entry
from workflows.engine import launch
from workflows.engine.runtime import Runtime
from workflows.steps.registry import schemas

TASK = "process_papers"
WORKFLOW = "process-papers"


def install(app: Celery, runtime: Runtime) -> None:
    """Register the task on `app`."""

    @cache
    def definition() -> Entry:
        return Catalogue(runtime.config.definition_folders, schemas(runtime.steps)).get(WORKFLOW)

    @app.task(name=TASK, bind=True, ignore_result=False, acks_late=True, max_retries=0, shared=False)
    def process_papers(self: Task[Any, Any], papers: list[str], force: bool = False) -> dict[str, str]:
        """Accept a run that cuts, embeds and stores these papers, by the ids that `fetch` gave; gives its id.

        A message that comes twice is one run.
        """
        entry = definition()
        _, plan = entry.compiled()
        params = {"papers": papers, "force_reprocess": force}
        accepted = launch.submit(
            runtime, plan, entry.text, params, manual=False, idempotency_key=f"{TASK}/{self.request.id}"
        )
        return {"run_id": accepted.run_id, "status": "PENDING"}
