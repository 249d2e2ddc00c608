"""The engine's tables as first released."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_table(
        "api_sessions",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_api_sessions_key_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", name="pk_api_sessions"),
    )
    op.create_table(
        "attempts",
        sa.Column("run_pk", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("item_index", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_pk", "ordinal", "part", "item_index", "generation", "number", name="pk_attempts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "installation",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_installation"),
    )
    op.create_table(
        "item_runs",
        sa.Column("run_pk", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("item_index", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="PENDING", nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_pk", "ordinal", "item_index", name="pk_item_runs"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_item_runs_waiting",
        "item_runs",
        ["run_pk", "ordinal", "not_before"],
        unique=False,
        sqlite_where=sa.text("status = 'RETRY'"),
        postgresql_where=sa.text("status = 'RETRY'"),
    )
    op.create_table(
        "limits",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("booked_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_limits"),
    )
    op.create_table(
        "leader_leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leader_leases"),
    )
    op.create_table(
        "run_events",
        sa.Column("run_pk", KEY, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=True),
        sa.Column("part", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_pk", "seq", name="pk_run_events"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workers",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("steady_since", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("is_leaving", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_workers"),
    )
    op.create_table(
        "workflow_versions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("chords", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("step_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workflow_versions"),
        sa.UniqueConstraint(
            "workflow_id", "fingerprint", "chords", name="uq_workflow_versions_workflow_id_fingerprint_chords"
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "job_runs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("status", sa.Text(), server_default="PENDING", nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("user_params", sa.Text(), nullable=True),
        sa.Column("manual_trigger", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("schedule", sa.Text(), nullable=True),
        sa.Column("fire_time", sa.Text(), nullable=True),
        sa.Column("progress_percentage", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("current_step", sa.Text(), nullable=True),
        sa.Column("steps_total", sa.Integer(), nullable=False),
        sa.Column("steps_open", sa.Integer(), nullable=False),
        sa.Column("steps_failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("turn_at", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("concurrency_group", sa.Text(), nullable=True),
        sa.Column("concurrency_limit", sa.Integer(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("deadline_at", sa.Double(), nullable=True),
        sa.Column("event_seq", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("redispatches", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_paused_with_parent", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("step_versions", sa.Text(), nullable=True),
        sa.Column("rerun_of", sa.Text(), nullable=True),
        sa.Column("parent_pk", KEY, nullable=True),
        sa.Column("parent_ordinal", sa.Integer(), nullable=True),
        sa.Column("is_mirrored", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("next_dispatch_at", sa.Double(), nullable=True),
        sa.Column("dispatch_wait_seconds", sa.Double(), server_default=sa.text("10"), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["version_id"], ["workflow_versions.id"], name="fk_job_runs_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_job_runs"),
        sa.UniqueConstraint("idempotency_key", name="uq_job_runs_idempotency_key"),
        sa.UniqueConstraint("task_id", name="uq_job_runs_task_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_job_runs_of_schedules",
        "job_runs",
        ["schedule"],
        unique=False,
        sqlite_where=sa.text("schedule IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("schedule IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index("ix_job_runs_created_at", "job_runs", ["created_at"], unique=False)
    op.create_index(
        "ix_job_runs_finished_at",
        "job_runs",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL AND generation >= 0"),
        postgresql_where=sa.text("finished_at IS NOT NULL AND generation >= 0"),
    )
    op.create_index(
        "ix_job_runs_in_progress",
        "job_runs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("status IN ('PROGRESS', 'PAUSED') AND generation >= 0"),
        postgresql_where=sa.text("status IN ('PROGRESS', 'PAUSED') AND generation >= 0"),
    )
    op.create_index(
        "ix_job_runs_unmirrored",
        "job_runs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("NOT is_mirrored AND finished_at IS NOT NULL"),
        postgresql_where=sa.text("NOT is_mirrored AND finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_job_runs_succeeded",
        "job_runs",
        ["version_id", "finished_at"],
        unique=False,
        sqlite_where=sa.text("status = 'SUCCESS' AND rerun_of IS NULL"),
        postgresql_where=sa.text("status = 'SUCCESS' AND rerun_of IS NULL"),
    )
    op.create_index(
        "ix_job_runs_of_parents",
        "job_runs",
        ["parent_pk", "parent_ordinal"],
        unique=True,
        sqlite_where=sa.text("parent_pk IS NOT NULL"),
        postgresql_where=sa.text("parent_pk IS NOT NULL"),
    )
    op.create_index(
        "ix_job_runs_open_parts",
        "job_runs",
        ["parent_pk"],
        unique=False,
        sqlite_where=sa.text("parent_pk IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("parent_pk IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "ix_job_runs_concurrency_group",
        "job_runs",
        ["concurrency_group", "id"],
        unique=False,
        sqlite_where=sa.text("concurrency_group IS NOT NULL AND status IN ('PENDING', 'PROGRESS', 'PAUSED')"),
        postgresql_where=sa.text("concurrency_group IS NOT NULL AND status IN ('PENDING', 'PROGRESS', 'PAUSED')"),
    )
    op.create_index(
        "ix_job_runs_undispatched",
        "job_runs",
        ["next_dispatch_at"],
        unique=False,
        sqlite_where=sa.text("status = 'PENDING' AND generation >= 0"),
        postgresql_where=sa.text("status = 'PENDING' AND generation >= 0"),
    )
    op.create_table(
        "plan_steps",
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("step_id", sa.Text(), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("arrives_by", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("5"), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["workflow_versions.id"], name="fk_plan_steps_version_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "ordinal", name="pk_plan_steps"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log_lines",
        sa.Column("id", KEY, nullable=False),
        sa.Column("run_pk", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=True),
        sa.Column("item_key", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_pk"], ["job_runs.id"], name="fk_log_lines_run_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_log_lines"),
    )
    op.create_index("ix_log_lines_run_pk_id", "log_lines", ["run_pk", "id"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("run_pk", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("step_id", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("is_approved", sa.Boolean(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("run_pk", "ordinal", name="pk_approvals"),
    )
    op.create_index(
        "ix_approvals_open",
        "approvals",
        ["asked_at"],
        unique=False,
        sqlite_where=sa.text("is_approved IS NULL"),
        postgresql_where=sa.text("is_approved IS NULL"),
    )
    op.create_table(
        "cached_outputs",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("uses", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_cached_outputs"),
    )
    op.create_index("ix_cached_outputs_expires_at", "cached_outputs", ["expires_at"], unique=False)
    op.create_table(
        "payloads",
        sa.Column("run_pk", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("item_index", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_pk", "ordinal", "item_index", name="pk_payloads"),
    )
    op.create_table(
        "step_runs",
        sa.Column("run_pk", KEY, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("step_id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="PENDING", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("pending", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("arrives_by", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("token", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("redispatches", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_node", sa.Text(), nullable=True),
        sa.Column("lease_pid", sa.Integer(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("deadline_at", sa.Double(), nullable=True),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("dispatched_at", sa.Double(), nullable=True),
        sa.Column("next_dispatch_at", sa.Double(), nullable=True),
        sa.Column("dispatch_wait_seconds", sa.Double(), server_default=sa.text("10"), nullable=False),
        sa.Column("parked_since", sa.Double(), nullable=True),
        sa.Column("limit_name", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default=sa.text("5"), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("progress_done", sa.Double(), nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("items_total", sa.Integer(), nullable=True),
        sa.Column("items_inserted", sa.Integer(), nullable=True),
        sa.Column("items_cursor", sa.Integer(), nullable=True),
        sa.Column("items_success", sa.Integer(), nullable=True),
        sa.Column("items_failure", sa.Integer(), nullable=True),
        sa.Column("items_seconds", sa.Double(), nullable=True),
        sa.Column("parts", sa.Integer(), nullable=True),
        sa.Column("parts_open", sa.Integer(), nullable=True),
        sa.Column("item_from", sa.Integer(), nullable=True),
        sa.Column("item_to", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["run_pk"], ["job_runs.id"], name="fk_step_runs_run_pk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_pk", "ordinal", "part", name="pk_step_runs"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_step_runs_due",
        "step_runs",
        ["next_dispatch_at"],
        unique=False,
        sqlite_where=sa.text("pending = 0 AND status IN ('PENDING', 'RETRY', 'WAITING') AND generation >= 0"),
        postgresql_where=sa.text("pending = 0 AND status IN ('PENDING', 'RETRY', 'WAITING') AND generation >= 0"),
    )
    op.create_index(
        "ix_step_runs_leased",
        "step_runs",
        ["lease_node"],
        unique=False,
        sqlite_where=sa.text("status = 'PROGRESS' AND lease_until IS NOT NULL AND generation >= 0"),
        postgresql_where=sa.text("status = 'PROGRESS' AND lease_until IS NOT NULL AND generation >= 0"),
    )
    op.create_index(
        "ix_step_runs_limited",
        "step_runs",
        ["limit_name", "next_dispatch_at"],
        unique=False,
        sqlite_where=sa.text("pending = 0 AND status = 'WAITING' AND limit_name IS NOT NULL"),
        postgresql_where=sa.text("pending = 0 AND status = 'WAITING' AND limit_name IS NOT NULL"),
    )
    op.create_index(
        "ix_step_runs_open_maps",
        "step_runs",
        ["next_dispatch_at"],
        unique=False,
        sqlite_where=sa.text("status = 'PROGRESS' AND lease_until IS NULL AND generation >= 0"),
        postgresql_where=sa.text("status = 'PROGRESS' AND lease_until IS NULL AND generation >= 0"),
    )
    op.create_table(
        "schedules",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("catchup", sa.Text(), nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("next_fire_at", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["workflow_versions.id"], name="fk_schedules_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
        sa.UniqueConstraint("name", name="uq_schedules_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_schedules_next_fire_at", "schedules", ["next_fire_at"], unique=False)
    op.create_table(
        "schedule_fires",
        sa.Column("schedule_id", KEY, nullable=False),
        sa.Column("fire_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("missed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name="fk_schedule_fires_schedule_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("schedule_id", "fire_at", name="pk_schedule_fires"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_schedule_fires_waiting",
        "schedule_fires",
        ["schedule_id", "fire_at"],
        unique=False,
        sqlite_where=sa.text("status = 'WAITING'"),
        postgresql_where=sa.text("status = 'WAITING'"),
    )
    op.create_table(
        "beat_entries",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_run_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_beat_entries"),
    )
