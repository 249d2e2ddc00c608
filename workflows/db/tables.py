"""The engine's tables.

Instants (`*_at`, `*_until`, `not_before`) are seconds since 1970 by the database's clock; JSON is text.
`docs/adr/0001-shape-of-the-system.md` says why a unit of work is `(run_pk, ordinal, part)`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from workflows.db.lists import AT_WORK, DUE, LEASED, LISTED, OPEN_MAPS, UNSTARTED

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Key = BigInteger().with_variant(Integer, "sqlite")
"""Integer key; SQLite numbers rows by itself only for INTEGER PRIMARY KEY."""


def _counter(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"))


workflow_versions = Table(
    "workflow_versions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("workflow_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("chords", Boolean, nullable=False),
    Column("source", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("step_count", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("workflow_id", "fingerprint", "chords"),
    # Workers remember plans and runs by their keys: a key is never used again, also after its row was deleted.
    sqlite_autoincrement=True,
)

plan_steps = Table(
    "plan_steps",
    metadata,
    Column(
        "version_id",
        Key,
        ForeignKey("workflow_versions.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("ordinal", Integer, primary_key=True),
    Column("step_id", Text, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("arrives_by", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("5")),
    sqlite_with_rowid=False,
)

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("task_id", Text, nullable=False, unique=True),
    Column("workflow_id", Text, nullable=False),
    Column("version_id", Key, ForeignKey("workflow_versions.id"), nullable=False),
    Column("status", Text, nullable=False, server_default="PENDING"),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    Column("params", Text, nullable=False),
    Column("user_params", Text),
    Column("manual_trigger", Boolean, nullable=False, server_default=text("true")),
    Column("idempotency_key", Text, unique=True),
    # Of a run that a schedule started: its name, and the time that had come, ISO 8601 in the schedule's own zone.
    Column("schedule", Text),
    Column("fire_time", Text),
    Column("progress_percentage", Integer, nullable=False, server_default=text("0")),
    Column("progress_done", BigInteger, nullable=False, server_default=text("0")),
    Column("current_step", Text),
    Column("steps_total", Integer, nullable=False),
    Column("steps_open", Integer, nullable=False),
    _counter("steps_failed"),
    # Steps of the blocks that have not begun: when only they are open, the run turns to the next block, or ends.
    _counter("turn_at"),
    Column("concurrency_group", Text),
    Column("concurrency_limit", Integer),
    Column("verdict", Text),
    Column("deadline_at", Double),
    _counter("event_seq"),
    _counter("redispatches"),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("is_paused_with_parent", Boolean, nullable=False, server_default=text("false")),
    Column("step_versions", Text),
    Column("rerun_of", Text),
    # Of a run that a step `uses: workflow` started: that step.
    Column("parent_pk", Key),
    Column("parent_ordinal", Integer),
    Column("is_mirrored", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("next_dispatch_at", Double),
    Column("dispatch_wait_seconds", Double, nullable=False, server_default=text("10")),
    Column("outputs", Text),
    Column("error", Text),
    Index("ix_job_runs_created_at", "created_at"),
    # For what has just ended. Written once a run, not with each step.
    Index(
        "ix_job_runs_finished_at",
        "finished_at",
        sqlite_where=text(f"finished_at IS NOT NULL AND {LISTED}"),
        postgresql_where=text(f"finished_at IS NOT NULL AND {LISTED}"),
    ),
    Index(
        "ix_job_runs_of_schedules",
        "schedule",
        sqlite_where=text("schedule IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=text("schedule IS NOT NULL AND finished_at IS NULL"),
    ),
    # Not on `steps_open`: an index over what each completion changes would cost PostgreSQL its in-place (HOT) updates.
    Index(
        "ix_job_runs_in_progress",
        "id",
        sqlite_where=text(AT_WORK),
        postgresql_where=text(AT_WORK),
    ),
    Index(
        "ix_job_runs_unmirrored",
        "id",
        sqlite_where=text("NOT is_mirrored AND finished_at IS NOT NULL"),
        postgresql_where=text("NOT is_mirrored AND finished_at IS NOT NULL"),
    ),
    Index(
        "ix_job_runs_succeeded",
        "version_id",
        "finished_at",
        sqlite_where=text("status = 'SUCCESS' AND rerun_of IS NULL"),
        postgresql_where=text("status = 'SUCCESS' AND rerun_of IS NULL"),
    ),
    Index(
        "ix_job_runs_of_parents",
        "parent_pk",
        "parent_ordinal",
        unique=True,
        sqlite_where=text("parent_pk IS NOT NULL"),
        postgresql_where=text("parent_pk IS NOT NULL"),
    ),
    Index(
        "ix_job_runs_open_parts",
        "parent_pk",
        sqlite_where=text("parent_pk IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=text("parent_pk IS NOT NULL AND finished_at IS NULL"),
    ),
    Index(
        "ix_job_runs_concurrency_group",
        "concurrency_group",
        "id",
        sqlite_where=text("concurrency_group IS NOT NULL AND status IN ('PENDING', 'PROGRESS', 'PAUSED')"),
        postgresql_where=text("concurrency_group IS NOT NULL AND status IN ('PENDING', 'PROGRESS', 'PAUSED')"),
    ),
    Index(
        "ix_job_runs_undispatched",
        "next_dispatch_at",
        sqlite_where=text(UNSTARTED),
        postgresql_where=text(UNSTARTED),
    ),
    sqlite_autoincrement=True,
)

step_runs = Table(
    "step_runs",
    metadata,
    Column("run_pk", Key, ForeignKey("job_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("step_id", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="PENDING"),
    Column("reason", Text),
    _counter("pending"),
    Column("arrives_by", Text, nullable=False),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    _counter("token"),
    _counter("failures"),
    _counter("crashes"),
    _counter("redispatches"),
    Column("lease_node", Text),
    Column("lease_pid", Integer),
    Column("lease_until", Double),
    Column("deadline_at", Double),
    Column("not_before", Double),
    Column("ready_at", Double),
    Column("dispatched_at", Double),
    Column("next_dispatch_at", Double),
    Column("dispatch_wait_seconds", Double, nullable=False, server_default=text("10")),
    Column("parked_since", Double),
    # The pool or rate limit that the unit holds or waits for.
    Column("limit_name", Text),
    Column("priority", Integer, nullable=False, server_default=text("5")),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("progress_done", Double),
    Column("output", Text),
    Column("error", Text),
    # Of a map, in part 0: its calls and how far they are; in the other parts: the range of calls.
    Column("items_total", Integer),
    Column("items_inserted", Integer),
    Column("items_cursor", Integer),
    Column("items_success", Integer),
    Column("items_failure", Integer),
    Column("items_seconds", Double),
    Column("parts", Integer),
    Column("parts_open", Integer),
    Column("item_from", Integer),
    Column("item_to", Integer),
    Index(
        "ix_step_runs_leased",
        "lease_node",
        sqlite_where=text(LEASED),
        postgresql_where=text(LEASED),
    ),
    Index(
        "ix_step_runs_due",
        "next_dispatch_at",
        sqlite_where=text(DUE),
        postgresql_where=text(DUE),
    ),
    Index(
        "ix_step_runs_limited",
        "limit_name",
        "next_dispatch_at",
        sqlite_where=text("pending = 0 AND status = 'WAITING' AND limit_name IS NOT NULL"),
        postgresql_where=text("pending = 0 AND status = 'WAITING' AND limit_name IS NOT NULL"),
    ),
    Index(
        "ix_step_runs_open_maps",
        "next_dispatch_at",
        sqlite_where=text(OPEN_MAPS),
        postgresql_where=text(OPEN_MAPS),
    ),
    sqlite_with_rowid=False,
)

# The tables below are written many rows at a time, always in a transaction that guards the step's own row; a foreign
# key would check the same thing again for each of them. Whoever deletes a run deletes these first.

item_runs = Table(
    "item_runs",
    metadata,
    Column("run_pk", Key, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("item_index", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="PENDING"),
    _counter("failures"),
    _counter("crashes"),
    Column("not_before", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("output", Text),
    Column("error", Text),
    Index(
        "ix_item_runs_waiting",
        "run_pk",
        "ordinal",
        "not_before",
        sqlite_where=text("status = 'RETRY'"),
        postgresql_where=text("status = 'RETRY'"),
    ),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_pk", Key, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("item_index", Integer, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("status", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("node", Text),
    Column("pid", Integer),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("error", Text),
    sqlite_with_rowid=False,
)

# Outputs that are too large for the rows of steps and calls; `item_index` -1 is the step itself.
payloads = Table(
    "payloads",
    metadata,
    Column("run_pk", Key, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("item_index", Integer, primary_key=True),
    Column("content", Text, nullable=False),
)

# What steps of the kind `approval` have asked, and the answers.
approvals = Table(
    "approvals",
    metadata,
    Column("run_pk", Key, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("step_id", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("is_approved", Boolean),
    Column("comment", Text),
    Column("decided_by", Text),
    Column("decided_at", Double),
    Index(
        "ix_approvals_open",
        "asked_at",
        sqlite_where=text("is_approved IS NULL"),
        postgresql_where=text("is_approved IS NULL"),
    ),
)

# Outputs of steps with `cache`, by what they were given.
cached_outputs = Table(
    "cached_outputs",
    metadata,
    Column("key", Text, primary_key=True),
    Column("uses", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("ix_cached_outputs_expires_at", "expires_at"),
)

run_events = Table(
    "run_events",
    metadata,
    Column("run_pk", Key, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("ordinal", Integer),
    Column("part", Integer),
    Column("status", Text, nullable=False),
    Column("detail", Text),
    sqlite_with_rowid=False,
)

log_lines = Table(
    "log_lines",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_pk", Key, ForeignKey("job_runs.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer),
    Column("item_key", Text),
    Column("attempt", Integer),
    Column("at", Double, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Index("ix_log_lines_run_pk_id", "run_pk", "id"),
)

workers = Table(
    "workers",
    metadata,
    Column("node", Text, primary_key=True),
    Column("hostname", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("queues", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("steady_since", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("is_leaving", Boolean, nullable=False, server_default=text("false")),
)

limits = Table(
    "limits",
    metadata,
    Column("name", Text, primary_key=True),
    Column("booked_until", Double, nullable=False),
)

leader_leases = Table(
    "leader_leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("lease_until", Double, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
)

api_sessions = Table(
    "api_sessions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("key_id", Text, ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
)

installation = Table(
    "installation",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""What all processes of an installation share: `message_key` signs messages on the broker."""

schedules = Table(
    "schedules",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("workflow_id", Text, nullable=False),
    Column("version_id", Key, ForeignKey("workflow_versions.id"), nullable=False),
    Column("origin", Text, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("catchup", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("is_enabled", Boolean, nullable=False, server_default=text("true")),
    Column("next_fire_at", BigInteger),
    Column("problem", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("ix_schedules_next_fire_at", "next_fire_at"),
    sqlite_autoincrement=True,
)

# A time of a schedule that has been decided about. Its key is what makes it impossible to fire one twice.
schedule_fires = Table(
    "schedule_fires",
    metadata,
    Column("schedule_id", Key, ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True),
    Column("fire_at", BigInteger, primary_key=True),
    Column("status", Text, nullable=False),
    Column("detail", Text),
    Column("missed", Integer, nullable=False, server_default=text("0")),
    Column("run_id", Text),
    Column("decided_at", Double, nullable=False),
    Index(
        "ix_schedule_fires_waiting",
        "schedule_id",
        "fire_at",
        sqlite_where=text("status = 'WAITING'"),
        postgresql_where=text("status = 'WAITING'"),
    ),
    sqlite_with_rowid=False,
)

# When Beat last sent each of its static entries.
beat_entries = Table(
    "beat_entries",
    metadata,
    Column("name", Text, primary_key=True),
    Column("last_run_at", Double, nullable=False),
)
