"""`celeriac run`."""

from __future__ import annotations

import click

from celeriac import definitions
from celeriac.output import json_option, note, print_json
from workflows.settings import Config


@click.command("run")
@click.argument("definition", metavar="FILE|ID")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A param of the run; may be repeated.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end of the run, or only record it.")
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 512),
    metavar="N",
    help="Worker processes of the embedded stack. [default: the cores]",
)
@click.option("--inline", is_flag=True, help="Carry it out in this process: no broker, no worker, one step at a time.")
@json_option("Print the run as one JSON object at its end.")
def command(
    definition: str, pairs: tuple[str, ...], wait: bool, concurrency: int | None, inline: bool, as_json: bool
) -> int:
    """Run a definition, and wait for its end.

    FILE|ID is a path, the id of a definition in ./definitions or of a shipped one, or - for standard input.

    Without CELERY_BROKER_URL, broker and workers are those of the home ($CELERIAC_HOME): brought up by the first who
    needs them, gone with the last. Exit code 1 when the run failed or was cancelled.
    """
    from celeriac.running import Order, RecordedError, record, run_inline, run_to_end
    from celeriac.summary import print_end

    config = Config.from_env()
    order = Order(definitions.find(definition), parse_params(pairs), concurrency, quiet=as_json)
    if inline:
        if not wait or concurrency is not None:
            raise click.UsageError("--inline runs and waits here: it goes without --no-wait and --concurrency")
        return run_inline(config, order, lambda report: print_end(report, as_json=as_json))
    if not wait:
        report, missing = record(config, order)
        if as_json:
            print_json(report.to_json())
        else:
            click.echo(f"recorded run {report.run.run_id}; follow it with `celeriac watch {report.run.run_id[:8]}`")
        if missing:
            note(f"note: {missing}")
        return 0
    try:
        return run_to_end(config, order, lambda report: print_end(report, as_json=as_json))
    except RecordedError as error:
        if as_json:
            _print_recorded(config, error.run_id)
        raise


def parse_params(pairs: tuple[str, ...]) -> dict[str, str]:
    """What `--param KEY=VALUE` was given, as texts."""
    params: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        name = name.strip()
        if not separator or not name:
            raise click.BadParameter(f"'{pair}' is not KEY=VALUE", param_hint="--param")
        if name in params:
            raise click.BadParameter(f"'{name}' is given twice", param_hint="--param")
        params[name] = value
    return params


def _print_recorded(config: Config, run_id: str) -> None:
    from celeriac.backends import reading
    from celeriac.follow import read_report

    with reading(config) as database:
        print_json(read_report(database, run_id).to_json())
