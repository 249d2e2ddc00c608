"""The JSON Schema of definitions, for editors: it completes and explains keys while one types.

It knows the shape only; names, scopes, types of data and the graph are checked by the parser.
"""

from __future__ import annotations

import re

from workflows.model.language import (
    DEFAULT_PRIORITY,
    MAX_ATTEMPTS,
    MAX_BATCH,
    MAX_BATCH_BYTES,
    MAX_BURST,
    MAX_FACTOR,
    MAX_PARALLEL,
    MAX_POOL,
    MAX_PRIORITY,
    MAX_RUNS_AT_ONCE,
    MAX_STEPS,
)
from workflows.model.names import IDENTIFIER, QUEUE_NAME, STEP_NAME
from workflows.model.params import TYPES
from workflows.model.policies import SIZE, Behavior
from workflows.model.schedules import DEFAULT_TIMEZONE
from workflows.model.spec import Catchup, Json, Overlap, TriggerRule

_DURATION = {
    "description": "A duration: 250ms, 30s, 10m, 6h, 1d, or a number of seconds.",
    "anyOf": [{"type": "string", "pattern": r"^\s*\d+(\.\d+)?(ms|s|m|h|d)\s*$"}, {"type": "number", "minimum": 0}],
}
_NAMES: dict[str, Json] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_COUNT = {"type": "integer", "minimum": 0}


def definition_schema() -> dict[str, Json]:
    """The schema (draft 2020-12) of a whole definition."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Celeriac workflow",
        **_mapping(
            "A workflow: steps that depend on each other, declared as a graph.",
            {
                "id": _name("Name of the workflow."),
                "description": {"type": "string", "description": "What it does, for people."},
                "params": _by_name("What a run takes, in the words of JSON Schema.", {"$ref": "#/$defs/param"}),
                "triggers": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/trigger"},
                    "description": "When it runs by itself.",
                },
                "defaults": {"$ref": "#/$defs/defaults"},
                "steps": {
                    **_by_name("The steps by id.", {"$ref": "#/$defs/step"}),
                    "minProperties": 1,
                    "maxProperties": MAX_STEPS,
                },
                "timeout": {
                    "$ref": "#/$defs/duration",
                    "description": "A run whose steps take longer is stopped, and fails.",
                },
                "concurrency": _concurrency(),
                "rate_limits": _by_name("Starts per time, over all workers and runs.", _rate_limit()),
                "pools": _by_name(
                    "Slots over all workers and runs.", {"type": "integer", "minimum": 1, "maximum": MAX_POOL}
                ),
                "on_failure": {
                    **_by_name("Steps that run when the run has failed.", {"$ref": "#/$defs/step"}),
                    "minProperties": 1,
                },
                "finally": {
                    **_by_name("Steps that run at the end, whatever has happened.", {"$ref": "#/$defs/step"}),
                    "minProperties": 1,
                },
                "outputs": _by_name("What the run gives; values may hold ${{ }}.", {}),
            },
            required=("id", "steps"),
        ),
        "$defs": {
            "duration": _DURATION,
            "param": _param(),
            "defaults": _mapping("What steps take over unless they say it themselves.", _shared()),
            "retry": _retry(),
            "for_each": _for_each(),
            "step": _step(),
            "trigger": _trigger(),
        },
    }


def _shared() -> dict[str, Json]:
    return {
        "queue": _name("Celery queue whose workers run it; 'processing' when left out.", QUEUE_NAME),
        "timeout": {"$ref": "#/$defs/duration", "description": "A try that runs longer is a failure."},
        "retry": {"$ref": "#/$defs/retry"},
        "rate_limit": _name("A name under rate_limits: each try, or call of a map, takes one start of it."),
        "pool": _name("A name under pools: a try holds one of its slots."),
        "priority": {
            "type": "integer", "minimum": 0, "maximum": MAX_PRIORITY, "default": DEFAULT_PRIORITY,
            "description": "What is ready at the same time goes by priority, the higher first.",
        },
    }  # fmt: skip


def _step() -> dict[str, Json]:
    return _mapping(
        "One step.",
        {
            "uses": {
                "type": "string",
                "pattern": f"^{STEP_NAME.pattern}$",
                "description": "Name of the registered step that does the work.",
            },
            "needs": {**_NAMES, "description": "Steps that come before; those that expressions read are implied."},
            "with": {"type": "object", "description": "Input of the step; values may hold ${{ }}."},
            "for_each": {"$ref": "#/$defs/for_each"},
            "run_if": {
                "enum": [rule.value for rule in TriggerRule],
                "default": TriggerRule.ALL_SUCCESS.value,
                "description": "When to run, given how the steps before it ended.",
            },
            "when": {
                "anyOf": [{"type": "boolean"}, {"type": "string", "pattern": r"\$\{\{"}],
                "description": "One expression that gives true or false; false skips the step.",
            },
            "cache": _cache(),
            **_shared(),
        },
        required=("uses",),
    )


def _trigger() -> dict[str, Json]:
    schedule = _mapping(
        "Run at times that a cron expression names.",
        {
            "id": _name("Names it among the schedules of this workflow; needed from the second on."),
            "cron": {
                "type": "string", "examples": ["0 3 * * *", "*/15 8-18 * * mon-fri", "@daily"],
                "description": "Minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly.",
            },
            "timezone": {
                "type": "string", "default": DEFAULT_TIMEZONE,
                "description": "IANA name of the zone whose clocks count, as in Europe/Berlin.",
            },
            "catchup": {
                "enum": [rule.value for rule in Catchup], "default": Catchup.LAST.value,
                "description": "Times that passed while no scheduler ran: none, the last or all of them run.",
            },
            "overlap": {
                "enum": [rule.value for rule in Overlap],
                "description": "When its last run goes on: skip this time (default), queue it, allow both, or "
                "cancel_running. With catchup: all the default is queue.",
            },
            "params": {"type": "object", "description": "Params of its runs; the rest are defaults."},
        },
        required=("cron",),
    )  # fmt: skip
    return _mapping("What makes the workflow run by itself.", {"schedule": schedule}, required=("schedule",))


def _for_each() -> dict[str, Json]:
    return _mapping(
        "Call the step once for every item, or for every batch of items.",
        {
            "items": {
                "anyOf": [{"type": "string"}, {"type": "array"}],
                "description": "One expression that gives a list, or a list.",
            },
            "key": {"type": "string", "description": "Names a call, as in ${{ item }}; its number when left out."},
            "batch": {
                "anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_BATCH}, _batch()],
                "description": "Items of one call, read as ${{ batch }} instead of ${{ item }}.",
            },
            "max_parallel": {
                "type": "integer", "minimum": 1, "maximum": MAX_PARALLEL,
                "description": "Calls in progress at the same time.",
            },
            "tolerate": {
                "anyOf": [_COUNT, {"type": "string", "pattern": r"^\s*\d{1,3}(\.\d+)?\s*%\s*$"}],
                "description": "Calls that may fail: a number, or a share such as 5%.",
            },
        },
        required=("items",),
    )  # fmt: skip


def _batch() -> dict[str, Json]:
    return _mapping(
        "Limits of a batch: it is full when either is reached.",
        {
            "size": {"type": "integer", "minimum": 1, "maximum": MAX_BATCH, "description": "Items."},
            "bytes": {
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": MAX_BATCH_BYTES},
                    {"type": "string", "pattern": SIZE.pattern},
                ],
                "description": "Bytes of the items as JSON text, as in 100kB; a larger item goes alone.",
            },
        },
    ) | {"minProperties": 1}


def _cache() -> dict[str, Json]:
    return _mapping(
        "Outputs are kept, and serve later tries of the same step version that are given the same.",
        {"ttl": {"$ref": "#/$defs/duration", "description": "For how long."}},
        required=("ttl",),
    )


def _rate_limit() -> dict[str, Json]:
    return _mapping(
        "A rate limit.",
        {
            "rate": {
                "type": "string",
                "pattern": r"^\s*[0-9]*[1-9][0-9]*\s*/\s*(\d+(\.\d+)?)?(ms|s|m|h|d)\s*$",
                "description": "Starts per time, evenly spread: 1/3s, 10/m, 100/1h.",
            },
            "burst": {
                "type": "integer", "minimum": 1, "maximum": MAX_BURST, "default": 1,
                "description": "Starts that may come at once after a quiet time.",
            },
        },
        required=("rate",),
    )  # fmt: skip


def _concurrency() -> dict[str, Json]:
    return _mapping(
        "How many runs may be at work at the same time.",
        {
            "group": {
                "type": "string",
                "minLength": 1,
                "description": "Runs of the same group count together; may read params. The workflow's id if left out.",
            },
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_RUNS_AT_ONCE, "default": 1},
            "behavior": {
                "enum": [behavior.value for behavior in Behavior],
                "default": Behavior.QUEUE.value,
                "description": "What a run does whose group is full: wait, end at once, or stop the others.",
            },
        },
    )


def _retry() -> dict[str, Json]:
    return _mapping(
        "When to try a failed step again. A step without retry is tried once.",
        {
            "max_attempts": {
                "type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS, "default": 4,
                "description": "Tries in all, the first one included: three retries are max_attempts: 4.",
            },
            "delay": {"$ref": "#/$defs/duration", "default": "60s", "description": "Wait before the second try."},
            "factor": {
                "type": "number", "minimum": 1, "maximum": MAX_FACTOR, "default": 2,
                "description": "Growth of the wait from try to try.",
            },
            "max_delay": {"$ref": "#/$defs/duration", "default": "15m", "description": "The wait never exceeds it."},
            "jitter": {
                "enum": ["full", "none"], "default": "full",
                "description": "full draws the wait between 0 and its value, none takes it as it is.",
            },
            "only_for": {**_NAMES, "description": "Exception classes, by name: only these are tried again."},
            "never_for": {**_NAMES, "description": "Exception classes, by name: final at once; wins over only_for."},
        },
    )  # fmt: skip


def _param() -> dict[str, Json]:
    inner = {"$ref": "#/$defs/param"}
    return _mapping(
        "The type of a param, in the words of JSON Schema. Without a default it is required.",
        {
            "type": {"enum": list(TYPES)},
            "title": {"type": "string"},
            "description": {"type": "string"},
            "default": {"description": "Value when none is given; null allows null."},
            "examples": {"type": "array", "minItems": 1},
            "enum": {"type": "array", "minItems": 1, "description": "The values that are allowed."},
            "minLength": _COUNT,
            "maxLength": _COUNT,
            "pattern": {"type": "string", "description": "Regular expression in RE2's syntax, searched for anywhere."},
            "minimum": {"type": "number"},
            "maximum": {"type": "number"},
            "exclusiveMinimum": {"type": "number"},
            "exclusiveMaximum": {"type": "number"},
            "items": inner,
            "minItems": _COUNT,
            "maxItems": _COUNT,
            "properties": {"type": "object", "additionalProperties": inner},
            "required": {"type": "array", "items": {"type": "string"}},
            "additionalProperties": {"anyOf": [{"type": "boolean"}, inner]},
        },
        required=("type",),
    )


def _mapping(description: str, properties: dict[str, Json], required: tuple[str, ...] = ()) -> dict[str, Json]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _by_name(description: str, value: dict[str, Json]) -> dict[str, Json]:
    return {
        "type": "object",
        "description": description,
        "propertyNames": {"pattern": f"^{IDENTIFIER.pattern}$"},
        "additionalProperties": value,
    }


def _name(description: str, pattern: re.Pattern[str] = IDENTIFIER) -> dict[str, Json]:
    return {"type": "string", "pattern": f"^{pattern.pattern}$", "description": description}
