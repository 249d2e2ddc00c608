"""`celeriac plan`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from celeriac import definitions
from celeriac.output import count_text, json_option, print_json
from workflows.model.errors import NotFoundError
from workflows.settings import Config

if TYPE_CHECKING:
    from workflows.compile.charges import StepCharge
    from workflows.compile.plan import Plan
    from workflows.engine.predict import Prediction
    from workflows.steps.registry import StepRegistry


@click.command("plan")
@click.argument("file")
@click.option("--simulate", is_flag=True, help="Play a run on a virtual clock, and draw a chart of it.")
@click.option("--slots", type=click.IntRange(1, 10_000), metavar="N", help="Steps at a time. [default: the cores here]")
@click.option(
    "--assume", "assumed", multiple=True, metavar="STEP=SECONDS[xCALLS]", help="What a step costs, whatever it did."
)
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A param, for what a run may cost.")
@click.option("--diff", "old", metavar="OLD", help="Say what FILE has that OLD has not: a file, an id, ID@FINGERPRINT.")
@click.option("--reuse", metavar="RUN", help="Say what a rerun of RUN with FILE would take over, and why.")
@json_option()
def command(
    file: str, simulate: bool, slots: int | None, assumed: tuple[str, ...], pairs: tuple[str, ...], old: str | None,
    reuse: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Dry-run: the exact canvas, the gates, every kind of message with its size, and the critical path.

    FILE is a path, the id of a definition, or - for standard input. Nothing is sent or changed. Past runs are looked
    at for --simulate and --slots, which tell how long a run would take; for nothing else is a database needed.
    """
    from workflows.steps.registry import load_steps

    config = Config.from_env()
    steps = load_steps(config.step_modules)
    plan = _plan(config, steps, file)
    if old is not None:
        _print_diff(_stored(config, steps, old) if "@" in old else _plan(config, steps, old), plan, as_json)
    elif reuse is not None:
        _print_reuse(config, steps, file, reuse, as_json)
    else:
        is_timed = simulate or slots is not None or bool(assumed)
        prediction = _predict(config, plan, slots or os.cpu_count() or 1, assumed) if is_timed else None
        found = _charges(steps, plan, pairs, prediction)
        _print_plan(config, plan, prediction, found, simulate, as_json)


def _plan(config: Config, steps: StepRegistry, name: str) -> Plan:
    from workflows.compile import compile_workflow
    from workflows.steps.registry import schemas

    workflow = definitions.parse(definitions.find(name), schemas(steps))
    return compile_workflow(workflow, chords=config.has_chords)


def _stored(config: Config, steps: StepRegistry, name: str) -> Plan:
    """A version that a run has started with: `ID@FINGERPRINT`, or the beginning of the fingerprint."""
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.compile import compile_workflow
    from workflows.db import queries
    from workflows.steps.registry import schemas

    workflow, _, fingerprint = name.partition("@")
    with reading(config) as database:
        found = database.retrying(
            lambda tx: queries.version_by_prefix(tx, workflow, fingerprint),
            autocommit=True,
            patience_seconds=READ_PATIENCE_SECONDS,
        )
    if found is None:
        raise NotFoundError(
            f"no run has started with one version '{name}'", "`celeriac show` and the API tell the versions of runs"
        )
    source = definitions.Source(name, found.encode())
    return compile_workflow(definitions.parse(source, schemas(steps)), chords=config.has_chords)


def _predict(config: Config, plan: Plan, slots: int, assumed: Iterable[str]) -> Prediction:
    from celeriac.backends import reading
    from workflows.compile.forecast import assumed as costs
    from workflows.engine.predict import predict

    given = dict(pair.partition("=")[::2] for pair in assumed)
    strange = sorted(set(given) - {step.id for step in plan.steps})
    if strange:
        raise click.BadParameter(
            f"there is no step '{strange[0]}' in workflow '{plan.workflow}'", param_hint="--assume"
        )
    try:
        works = costs(given)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--assume") from None
    try:
        with reading(config) as database:
            return predict(database, plan, slots, works)
    except NotFoundError:
        return predict(None, plan, slots, works)


def _charges(
    steps: StepRegistry, plan: Plan, pairs: tuple[str, ...], prediction: Prediction | None
) -> tuple[StepCharge, ...]:
    """What the run may cost; params that are missing are left out, for a dry-run needs none."""
    from celeriac.commands.run import parse_params
    from workflows.compile.charges import charges
    from workflows.model.params import coerce_params
    from workflows.steps.registry import charging

    given = parse_params(pairs)
    names = {*given, *(spec.name for spec in plan.params if not spec.required)}
    params = coerce_params(tuple(spec for spec in plan.params if spec.name in names), given, from_text=True)
    return charges(plan, charging(steps), params, prediction.works if prediction is not None else {})


def _print_plan(
    config: Config, plan: Plan, prediction: Prediction | None, found: tuple[StepCharge, ...], simulate: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from workflows.compile.charges import charges_text
    from workflows.compile.explain import explain_text
    from workflows.engine.app import make_app
    from workflows.engine.dry_run import dry_run

    works = {} if prediction is None else {bar.step: bar.end - bar.start for bar in prediction.forecast.bars}
    explained = dry_run(make_app(config), config, plan, works or None)
    if as_json:
        told = {"charges": {one.step: one.to_json() for one in found}} if found else {}
        predicted = {} if prediction is None else {"forecast": prediction.to_json()}
        print_json({**explained, **predicted, **told})
        return
    lines = explain_text(plan, explained).splitlines()
    lines += ["", "charges", *(f"  {line}" for line in charges_text(found))] if found else []
    for line in [*lines, *([] if prediction is None else _forecast_lines(prediction, simulate))]:
        click.echo(_headed(line))


def _forecast_lines(prediction: Prediction, simulate: bool) -> Iterator[str]:
    from workflows.compile.forecast import chart, clock

    played = prediction.forecast
    yield ""
    slots = count_text(played.slots, "slot")
    yield f"forecast  {clock(played.seconds)} with {slots}, {played.busy_share:.0%} of them busy"
    if prediction.runs:
        told = f"  from {count_text(prediction.runs, 'past run')}"
        yield (
            told
            if prediction.error is None
            else f"{told}; so predicted, these would have been {prediction.error:.0%} off"
        )
    if prediction.unknown:
        names = ", ".join(prediction.unknown[:8]) + (" ..." if len(prediction.unknown) > 8 else "")
        yield f"  no past run tells of {names}: counted as 1 s each, see --assume"
    if simulate:
        yield ""
        for line in chart(played):
            yield f"  {line}"


def _print_diff(old: Plan, new: Plan, as_json: bool) -> None:
    from workflows.compile.diff import diff, diff_text

    found = diff(old, new)
    if as_json:
        print_json({"old": old.fingerprint, "new": new.fingerprint, **found.to_json()})
        return
    click.echo(f"{old.workflow} {old.fingerprint[:12]} -> {new.workflow} {new.fingerprint[:12]}")
    for line in diff_text(found).splitlines():
        colour = {"+": "green", "-": "red", "~": "yellow"}.get(line[0])
        click.echo(click.style(line, fg=colour))


def _print_reuse(config: Config, steps: StepRegistry, file: str, run: str, as_json: bool) -> None:
    from celeriac.backends import backend, reading, runtime_of
    from celeriac.commands.rerun import print_verdicts
    from celeriac.running import edited
    from workflows.engine.rerun import rerun

    with reading(config):  # says so when there is no database
        pass
    with backend(config, start=False) as using:
        runtime = runtime_of(using.config, steps)
        answer = rerun(runtime, run, definition=edited(config, file, steps), dry_run=True)
        runtime.database.close()
    if as_json:
        print_json({"of": answer.of, "steps": list(map(asdict, answer.verdicts))})
    else:
        print_verdicts(answer.verdicts)


def _headed(line: str) -> str:
    """A line of the explanation; headings, which are not indented, stand out."""
    if not line or line.startswith(" "):
        return line
    word, separator, rest = line.partition(" ")
    return click.style(word, bold=True) + separator + rest
