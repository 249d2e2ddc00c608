"""The words of the definition language: which keys stand where, and what to say about those that do not."""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_STEPS = 5_000
"""Steps of one workflow."""
MAX_ATTEMPTS = 100
MAX_BATCH = 100_000
MAX_BATCH_BYTES = 100_000_000
MAX_PARALLEL = 100_000
MAX_RUNS_AT_ONCE = 10_000
MAX_BURST = 10_000
MAX_POOL = 10_000
DEFAULT_PRIORITY, MAX_PRIORITY = 5, 9
MAX_SECONDS = 30 * 86_400.0
"""The longest delay or timeout: 30 days."""
MAX_FACTOR = 100.0

SECRET_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
"""Names of secrets, as those of variables."""

WORKFLOW_KEYS = frozenset({
    "id", "description", "params", "triggers", "defaults", "timeout", "concurrency", "rate_limits", "pools", "steps",
    "on_failure", "finally", "outputs",
})  # fmt: skip
DEFAULTS_KEYS = frozenset({"queue", "timeout", "retry", "priority", "rate_limit", "pool"})
STEP_KEYS = frozenset(
    {
        "needs",
        "uses",
        "with",
        "for_each",
        "retry",
        "timeout",
        "queue",
        "run_if",
        "when",
        "priority",
        "rate_limit",
        "pool",
        "cache",
    }
)
CACHE_KEYS = frozenset({"ttl"})
BATCH_KEYS = frozenset({"size", "bytes"})
CONCURRENCY_KEYS = frozenset({"group", "limit", "behavior"})
RATE_LIMIT_KEYS = frozenset({"rate", "burst"})
FOR_EACH_KEYS = frozenset({"items", "key", "batch", "max_parallel", "tolerate"})
TRIGGER_KEYS = frozenset({"schedule"})
SCHEDULE_KEYS = frozenset({"id", "cron", "timezone", "catchup", "overlap", "params"})
RETRY_KEYS = frozenset({"max_attempts", "delay", "factor", "max_delay", "jitter", "only_for", "never_for"})

RULES_THAT_NEED_UPSTREAM = frozenset({
    "all_failed", "all_skipped", "all_done_min_one_success", "one_success", "one_failed", "one_done",
    "none_failed_min_one_success",
})  # fmt: skip
"""Values of `run_if` that can never hold for a step without dependencies."""

ELSEWHERE: Mapping[str, str] = {
    "args": "the key is 'with'",
    "depends": "the key is 'needs'",
    "depends_on": "the key is 'needs'",
    "dependencies": "the key is 'needs'",
    "env": "hand values to a step through 'with'",
    "if": "the key is 'when', with an expression such as ${{ params.send }}, or 'run_if', with a rule such as all_done",
    "condition": "the key is 'when', with an expression such as ${{ params.send }}",
    "inputs": "the key is 'params' for a workflow, 'with' for a step",
    "jobs": "the key is 'steps'",
    "matrix": "the key is 'for_each'",
    "max_retries": "the key is 'max_attempts', and it counts the first try: max_retries: 3 is max_attempts: 4",
    "name": "the key is 'id'; the id of a step is its key under 'steps'",
    "on": "the key is 'triggers'; the command line and the API need none",
    "retries": "the key is 'retry', as in retry: {max_attempts: 4}",
    "run": "a step names a registered step with 'uses'; there is no shell",
    "secrets": "a secret is read where it is needed: with: {url: ${{ secret.SLACK_URL }}}",
    "schedule": "a schedule is a trigger, as in triggers: [{schedule: {cron: ...}}]",
    "strategy": "the key is 'for_each'",
    "tasks": "the key is 'steps'",
    "version": "a version is the fingerprint of the text; nothing is to be written",
}
"""Keys that people bring from other languages."""
