"""`celeriac schedule`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from celeriac.output import console, instant_text, json_option, note, plain_table, print_json
from workflows.model.errors import NotFoundError
from workflows.model.spec import Catchup, Overlap
from workflows.settings import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workflows.db.database import Database, Transaction
    from workflows.db.schedules import Schedule
    from workflows.engine.runtime import Runtime
    from workflows.scheduling.sync import Synced

NO_SCHEDULER = (
    "note: no scheduler is running, so nothing fires",
    "start one with `celery -A celery_app beat`, or `celeriac worker` without a broker of your own",
)
_NEXT_SHOWN = 5


@click.group("schedule")
def command() -> None:
    """See and change what runs by itself.

    Schedules come from the `triggers` of definitions, and from `schedule add`.
    """


@command.command("ls")
@click.option("--workflow", "-w", default="", metavar="ID", help="Schedules of this workflow only.")
@json_option("Print a JSON list.")
def ls(workflow: str, as_json: bool) -> None:
    """List schedules by name."""
    from workflows.db import schedules
    from workflows.scheduling.views import is_watched, views

    def work(tx: Transaction) -> tuple[list[dict[str, Any]], bool]:
        return views(tx, schedules.page(tx, workflow=workflow)), is_watched(tx)

    try:
        found, watched = _read(work)
    except NotFoundError:  # no database yet: no schedules
        found, watched = [], True
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no schedules; `celeriac schedule sync` reads those of the definitions")
        return
    table = plain_table("schedule", "workflow", "cron", "zone", "next", "last", last="remark")
    for one in found:
        upcoming = instant_text(one["next_fire_at"]) if one["is_enabled"] else "disabled"
        table.add_row(
            one["name"], one["workflow"], one["cron"], one["timezone"], upcoming, instant_text(one["last_fire_at"]),
            one["problem"] or "",
        )  # fmt: skip
    console().print(table)
    if not watched:
        note(*NO_SCHEDULER)


@command.command("show")
@click.argument("name")
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=10, show_default=True, help="Past times to show.")
@json_option()
def show(name: str, limit: int, as_json: bool) -> None:
    """Show one schedule: its rules, its next times, and what became of the past ones."""
    from workflows.db import schedules
    from workflows.scheduling.views import fire_view, times, view

    def work(tx: Transaction) -> dict[str, Any]:
        schedule = schedules.find(tx, name)
        return {
            **view(tx, schedule),
            "next": times(schedule, schedules.now(tx), _NEXT_SHOWN) if schedule.is_enabled else [],
            "fires": [fire_view(schedule, fire) for fire in schedules.fires(tx, schedule, limit=limit)],
        }

    found = _read(work)
    if as_json:
        print_json(found)
        return
    out = console()
    out.print(f"[bold]{found['name']}[/bold]  {found['workflow']}  {found['cron']}  {found['timezone']}")
    state = "" if found["is_enabled"] else "  [yellow]disabled[/yellow]"
    out.print(f"  catchup {found['catchup']}  overlap {found['overlap']}  from the {found['origin']}{state}")
    if found["params"]:
        out.print("  params  " + "  ".join(f"{key}={value}" for key, value in found["params"].items()), markup=False)
    if found["problem"]:
        out.print(f"  {found['problem']}", style="yellow", markup=False)
    for upcoming in found["next"]:
        out.print(f"  next  {upcoming['fire_time']}", style="dim")
    if found["fires"]:
        table = plain_table("time", "what", "run", last="remark")
        for fire in found["fires"]:
            remark = fire["detail"] or (f"{fire['missed']} times up to this one" if fire["missed"] else "")
            table.add_row(fire["fire_time"], fire["status"], (fire["run_id"] or "-")[:8], remark)
        out.print()
        out.print(table)


@command.command("next")
@click.argument("name")
@click.option("--count", "-n", type=click.IntRange(1, 1000), default=5, show_default=True, help="Times to tell.")
@json_option("Print a JSON list.")
def next_times(name: str, count: int, as_json: bool) -> None:
    """Tell the next times of a schedule, as its zone's clocks show them; of a disabled one, those it would have."""
    from workflows.db import schedules
    from workflows.scheduling.views import times

    found = _read(lambda tx: times(schedules.find(tx, name), schedules.now(tx), count))
    if as_json:
        print_json(found)
    else:
        for one in found:
            click.echo(one["fire_time"])


@command.command("add")
@click.argument("definition", metavar="FILE|ID")
@click.option("--cron", required=True, metavar="EXPR", help='Five fields, as "0 3 * * *", or a word such as @daily.')
@click.option("--timezone", "-z", default="UTC", show_default=True, metavar="ZONE", help="IANA name.")
@click.option("--name", metavar="NAME", help="[default: the workflow's id]")
@click.option("--catchup", type=click.Choice([rule.value for rule in Catchup]), help="[default: last]")
@click.option("--overlap", type=click.Choice([rule.value for rule in Overlap]), help="[default: skip]")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A param of its runs; repeatable.")
@click.option("--disabled", is_flag=True, help="It fires once it is enabled.")
@json_option()
def add(
    definition: str,
    cron: str,
    timezone: str,
    name: str | None,
    catchup: str | None,
    overlap: str | None,
    pairs: tuple[str, ...],
    disabled: bool,
    as_json: bool,
) -> None:
    """Make a schedule of a workflow, beside those that its definition declares."""
    import hashlib
    from pathlib import Path

    from celeriac import definitions
    from celeriac.commands.run import parse_params
    from workflows.catalogue import read_entry
    from workflows.scheduling import verbs
    from workflows.steps.registry import load_steps, schemas

    source = definitions.find(definition)
    config = Config.from_env()
    definitions.parse(source)
    digest = hashlib.sha256(source.data).hexdigest()
    entry = read_entry(source.data, Path(source.name), digest, schemas(load_steps(config.step_modules)))
    wish = verbs.Wish(
        cron=cron,
        timezone=timezone,
        catchup=Catchup(catchup) if catchup else None,
        overlap=Overlap(overlap) if overlap else None,
        params=parse_params(pairs),
        is_enabled=not disabled,
    )
    with _runtime(config) as runtime:
        _tell(runtime, verbs.add(runtime, entry, name or entry.id, wish, from_text=True), "made", as_json)


@command.command("enable")
@click.argument("name")
@json_option()
def enable(name: str, as_json: bool) -> None:
    """Let a schedule fire from now on; times that passed meanwhile are not made up for."""
    _switch(name, True, as_json)


@command.command("disable")
@click.argument("name")
@json_option()
def disable(name: str, as_json: bool) -> None:
    """Let a schedule rest, whatever its definition says."""
    _switch(name, False, as_json)


@command.command("rm")
@click.argument("name")
@json_option()
def remove(name: str, as_json: bool) -> None:
    """Remove a schedule and its history; its runs stay."""
    from workflows.catalogue import Catalogue
    from workflows.scheduling import verbs
    from workflows.steps.registry import load_steps, schemas

    config = Config.from_env()
    catalogue = Catalogue(config.definition_folders, schemas(load_steps(config.step_modules)))
    with _runtime(config) as runtime:
        removed = verbs.remove(runtime, name, is_declared=verbs.is_declared(catalogue, name))
    if as_json:
        print_json({"removed": removed.name})
    else:
        click.echo(f"removed schedule {removed.name}")


@command.command("run-now")
@click.argument("name")
@json_option()
def run_now(name: str, as_json: bool) -> None:
    """Start a run of a schedule at once, with its params; its times stay as they are."""
    from celeriac.backends import backend
    from celeriac.follow import read_workers
    from workflows.scheduling import firing

    with backend(Config.from_env(), start=False) as using, _runtime(using.config) as runtime:
        accepted = firing.run_now(runtime, name, publish=using.is_up)
        has_worker = bool(read_workers(runtime.database))
    if as_json:
        print_json({"run_id": accepted.run_id, "schedule": name})
    else:
        click.echo(f"recorded run {accepted.run_id}; follow it with `celeriac watch {accepted.run_id[:8]}`")
    if not has_worker:
        note("note: no worker is running; the run starts when there is one: `celeriac worker`")


@command.command("sync")
@click.option("--prune", is_flag=True, help="Remove the schedules of definitions that are not there.")
@json_option()
def synchronise(prune: bool, as_json: bool) -> None:
    """Read the definitions, and bring their schedules in step; a running scheduler does it by itself."""
    from workflows.catalogue import Catalogue
    from workflows.scheduling.sync import sync
    from workflows.steps.registry import load_steps, schemas

    config = Config.from_env()
    catalogue = Catalogue(config.definition_folders, schemas(load_steps(config.step_modules)))
    with _runtime(config) as runtime:
        found = sync(runtime, catalogue.all(), prune=prune)
    if as_json:
        from dataclasses import asdict

        print_json(asdict(found))
    else:
        _print_sync(found)


@command.command("backfill")
@click.argument("name")
@click.option("--from", "begin", required=True, metavar="TIME", help="As 2026-03-01 or 2026-03-01T06:00; included.")
@click.option("--to", "end", required=True, metavar="TIME", help="The same; not included.")
@click.option("--dry-run", is_flag=True, help="Only tell the times.")
@json_option()
def backfill(name: str, begin: str, end: str, dry_run: bool, as_json: bool) -> None:
    """Let past times of a schedule fire that have not.

    Times without an offset are those of the schedule's zone. The scheduler starts the runs, by the schedule's rule for
    overlaps: one after another, or with allow all at once.
    """
    from workflows.db import schedules
    from workflows.scheduling import verbs
    from workflows.scheduling.views import instant_of, is_watched

    with _runtime(Config.from_env()) as runtime:
        schedule = runtime.database.retrying(lambda tx: schedules.find(tx, name), autocommit=True)
        found = verbs.backfill(runtime, name, instant_of(begin, schedule), instant_of(end, schedule), dry_run=dry_run)
        watched = runtime.database.retrying(is_watched, autocommit=True)
    zone = schedule.times()
    if as_json:
        print_json({
            "schedule": name, "dry_run": dry_run,
            "queued": [zone.text_of(at) for at in found.queued], "decided": [zone.text_of(at) for at in found.decided],
        })  # fmt: skip
    else:
        for at in found.queued:
            click.echo(zone.text_of(at))
        would = "would be queued" if dry_run else "queued"
        click.echo(f"{len(found.queued)} times {would}, {len(found.decided)} had fired or are waiting already")
    if not watched and not dry_run:
        note(*NO_SCHEDULER)


def _switch(name: str, is_enabled: bool, as_json: bool) -> None:
    from workflows.scheduling import verbs

    with _runtime(Config.from_env()) as runtime:
        changed = verbs.change(runtime, name, verbs.Wish(is_enabled=is_enabled))
        _tell(runtime, changed, "enabled" if is_enabled else "disabled", as_json)


def _tell(runtime: Runtime, schedule: Schedule, what: str, as_json: bool) -> None:
    """What a schedule is now."""
    from workflows.scheduling.views import is_watched, view

    found, watched = runtime.database.retrying(lambda tx: (view(tx, schedule), is_watched(tx)), autocommit=True)
    if as_json:
        print_json(found)
        return
    times = schedule.times()
    upcoming = "" if schedule.next_fire_at is None else f"; it fires next at {times.text_of(schedule.next_fire_at)}"
    click.echo(f"{what} schedule {schedule.name}{upcoming}")
    if not watched and schedule.is_enabled:
        note(*NO_SCHEDULER)


def _print_sync(found: Synced) -> None:
    for line in found.lines():
        click.echo(line)
    for name, problem in found.problems.items():
        note(f"schedule {name}: {problem}")
    if found.missing:
        note(
            f"note: the definitions of {', '.join(found.missing)} are not here; they go on",
            "`celeriac schedule sync --prune` removes them",
        )
    if not found.lines():
        click.echo("all schedules are in step with their definitions")


def _read(work: Callable[[Transaction], Any]) -> Any:
    from celeriac.backends import READ_PATIENCE_SECONDS, reading

    with reading(Config.from_env()) as database:
        return _query(database, work, READ_PATIENCE_SECONDS)


def _query(database: Database, work: Callable[[Transaction], Any], patience_seconds: float) -> Any:
    return database.retrying(work, autocommit=True, patience_seconds=patience_seconds)


@contextmanager
def _runtime(config: Config) -> Iterator[Runtime]:
    """A runtime over a database that is ready."""
    from celeriac.backends import prepare, runtime_of

    runtime = runtime_of(config)
    prepare(runtime.database)
    try:
        yield runtime
    finally:
        runtime.database.close()
