"""`cache`: a step, or a call of a map, that is given what an earlier one was given takes its output.

The key is a hash of the registered step's name and declared version and of its input with all expressions evaluated.
An author who changes what a step does raises its version, and nothing that is kept fits any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from workflows.db import cache
from workflows.db.cache import Cached
from workflows.db.database import Transaction
from workflows.engine.job import Job
from workflows.steps.registry import StepDefinition


def key_of(definition: StepDefinition, values: Mapping[str, Any]) -> str:
    """The hash of what decides on the output, 64 hex digits (SHA-256)."""
    text = json.dumps([definition.name, definition.version, values], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def find(job: Job, definition: StepDefinition, values: Mapping[str, Any]) -> Cached | None:
    """The output kept for this input; None when there is none that is young enough."""
    key = key_of(definition, values)
    return find_all(job, [key]).get(key)


def find_all(job: Job, keys: list[str]) -> dict[str, Cached]:
    """The outputs kept under these keys."""
    return job.runtime.database.retrying(lambda tx: cache.find(tx, keys), autocommit=True)


def keep(tx: Transaction, job: Job, outputs: Mapping[str, str]) -> None:
    """Keep outputs, by key, for as long as the step's `cache` says."""
    assert job.step.cache_seconds is not None
    cache.keep(tx, job.step.uses, job.context.run_id, job.step.cache_seconds, outputs)
