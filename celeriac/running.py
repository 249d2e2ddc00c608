"""Running a definition from the command line: accept it, see it through, leave in an orderly way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celeriac import definitions
from celeriac.backends import Backend, backend, prepare, runtime_of
from celeriac.follow import Advice, Interrupts, LeftError, follow, read_report, read_workers
from celeriac.progress import Display, make_display
from workflows.model.errors import BrokerUnavailableError, CeleriacError, ConflictError, DefinitionError

if TYPE_CHECKING:
    from workflows.compile.plan import Plan
    from workflows.db.queries import RunReport, RunView
    from workflows.engine.launch import Submitted
    from workflows.engine.rerun import Definition
    from workflows.engine.runtime import Runtime
    from workflows.model.spec import Workflow
    from workflows.settings import Config
    from workflows.steps.registry import StepRegistry

PATIENCE_SECONDS = 3.0
"""How long a run may be without a worker before that is said."""

EMBEDDED_PATIENCE_SECONDS = 30.0
"""The same while the embedded worker comes up."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run, and how.

    Attributes:
        params: As texts of the command line.
        slots: Processes of the embedded worker, if this is who starts it; None means the cores.
        quiet: No lines of progress.
    """

    source: definitions.Source
    params: Mapping[str, str]
    slots: int | None = None
    quiet: bool = False


class LeftRunError(CeleriacError):
    """Ctrl-C was pressed once more: the command leaves, the run stays."""

    exit_code = 130


class RecordedError(BrokerUnavailableError):
    """The run is recorded, but its message could not be sent."""

    def __init__(self, message: str, hint: str, run_id: str) -> None:
        super().__init__(message, hint)
        self.run_id = run_id


def run_to_end(config: Config, order: Order, on_end: Callable[[RunReport], None]) -> int:
    """Run a definition and wait for its end.

    Args:
        on_end: Tells how it has ended, before the embedded stack is left, which takes a moment.

    Returns:
        The exit code.

    Raises:
        DefinitionError, ParamError, UnservedQueueError: nothing was accepted.
        RecordedError: the broker does not answer; the run waits for it.
        LeftRunError: the person has left.
    """
    _check_alone(config, order)
    with backend(config, slots=order.slots) as using:
        with make_display(quiet=order.quiet) as display:
            runtime, plan = _load(using.config, order)
            using.ready()
            accepted = submit(runtime, plan, order)
            if not accepted.is_published:
                raise RecordedError(
                    f"the message broker does not answer; run {accepted.run_id} is recorded and starts when it does",
                    f"start the broker or correct CELERY_BROKER_URL, then `celeriac watch {accepted.run_id[:8]}`",
                    accepted.run_id,
                )
            if order.slots is not None:
                _tell_slots(using, order.slots, display)
            report = see_through(runtime, using, accepted.run_id, display)
        on_end(report)
    return exit_code(report)


def run_inline(config: Config, order: Order, on_end: Callable[[RunReport], None]) -> int:
    """Run a definition in this process, without broker and workers.

    Returns:
        The exit code.

    Raises:
        DefinitionError, ParamError, UnservedQueueError: nothing was accepted.
        LeftRunError: Ctrl-C was pressed; the step at work was ended first, the run stays.
    """
    from workflows.engine import inline

    _check_alone(config, order)
    with make_display(quiet=order.quiet) as display, Interrupts(warnings=0) as interrupts:
        runtime, plan = _load(config, order)
        runtime = inline.without_messages(runtime)
        accepted = submit(runtime, plan, order, publish=False)

        def goes_on() -> bool:
            report = read_report(runtime.database, accepted.run_id, patience_seconds=60.0)
            display.show(report)
            interrupts.check(lambda: None)
            return not report.run.is_ended

        try:
            inline.carry_out(runtime, accepted.run_pk, goes_on)
        except LeftError:
            raise LeftRunError(
                f"left run {accepted.run_id} as it is; nothing was cancelled",
                f"it goes on as soon as a worker runs; `celeriac cancel {accepted.run_id[:8]}` cancels it",
            ) from None
        report = read_report(runtime.database, accepted.run_id)
        runtime.database.close()
    on_end(report)
    return exit_code(report)


def exit_code(report: RunReport) -> int:
    """0 when the run has succeeded or had nothing to do, 1 when it failed or was cancelled."""
    return 0 if report.run.status in ("SUCCESS", "SKIPPED") else 1


def record(config: Config, order: Order) -> tuple[RunReport, str]:
    """Accept a run without waiting for it, and without starting a stack.

    Returns:
        The run, and what is missing for it to start; empty when nothing is.
    """
    _check_alone(config, order)
    with backend(config, start=False) as using:
        runtime, plan = _load(using.config, order)
        accepted = submit(runtime, plan, order, publish=using.is_up)
        report = read_report(runtime.database, accepted.run_id)
        missing = ""
        if using.is_up and not accepted.is_published:
            missing = "the message broker does not answer; the run starts when it does, and a worker is there"
        elif not read_workers(runtime.database):
            missing = "no worker is running; the run starts when there is one: `celeriac worker`"
        runtime.database.close()
        return report, missing


def see_through(runtime: Runtime, using: Backend, run_id: str, display: Display) -> RunReport:
    """Follow an accepted run to its end, and keep the embedded stack up meanwhile.

    Raises:
        LeftRunError: Ctrl-C was pressed twice; the run stays.
    """
    advice = Advice(
        display,
        runtime.database,
        lambda: missing_worker(runtime, using),
        EMBEDDED_PATIENCE_SECONDS if using.is_embedded else PATIENCE_SECONDS,
    )

    def tick(report: RunReport) -> None:
        using.keep_up()
        advice.tick(report)

    with Interrupts(warnings=1) as interrupts:
        try:
            return follow(
                runtime.database,
                run_id,
                display,
                tick=tick,
                check=lambda: interrupts.check(lambda: display.say(_first_answer(run_id, using))),
            )
        except LeftError:
            if using.holds_stack:
                display.say("leaving: steps in progress have a few seconds to finish")
            raise LeftRunError(
                f"left run {run_id} as it is; nothing was cancelled",
                "it goes on as soon as a worker runs: " * using.holds_stack
                + f"`celeriac watch {run_id[:8]}` follows it, `celeriac cancel {run_id[:8]}` cancels it",
            ) from None
        finally:
            runtime.database.close()


def submit(runtime: Runtime, plan: Plan, order: Order, *, publish: bool = True) -> Submitted:
    """Accept the run in the database, and publish its message."""
    from workflows.engine import launch

    return launch.submit(runtime, plan, order.source.text, order.params, from_text=True, publish=publish)


def missing_worker(runtime: Runtime, using: Backend) -> str:
    """Why nothing takes the run up, as far as can be seen from here."""
    if using.holds_stack:
        return (
            f"the embedded worker is not up yet\nhint: see {runtime.config.home / 'logs' / 'worker.log'}, "
            "or run `celeriac doctor`"
        )
    if using.is_embedded:
        return "no worker is running\nhint: start one with `celeriac worker`"
    if _others_answer(runtime):
        return (
            "workers answer at this broker, but none uses this database\n"
            "hint: give them and this command the same DATABASE_URL"
        )
    return "no worker is running on this broker\nhint: start one with `celeriac worker`, with the same settings"


def _others_answer(runtime: Runtime) -> bool:
    with suppress(Exception):  # any trouble of the broker means no answer, and is told by others
        return bool(runtime.app.control.ping(timeout=1.0))
    return False


def _check_alone(config: Config, order: Order) -> None:
    """What can be wrong with a definition by itself: refused before anything is brought up for it."""
    from workflows.model.params import coerce_params

    try:
        workflow = definitions.parse(order.source)
    except DefinitionError:
        _parse_with_steps(config, order)  # finds what is wrong with its steps too, so that all is told at once
        raise
    coerce_params(workflow.params, order.params, from_text=True)
    definitions.check_queues(workflow, config)


def _parse_with_steps(config: Config, order: Order) -> tuple[Workflow, StepRegistry]:
    from workflows.steps.registry import load_steps, schemas

    steps = load_steps(config.step_modules)
    return definitions.parse(order.source, schemas(steps)), steps


def _load(config: Config, order: Order) -> tuple[Runtime, Plan]:
    """A runtime with all steps, over a database that is ready, and the plan, checked against these steps."""
    from workflows.compile import compile_workflow

    workflow, steps = _parse_with_steps(config, order)
    plan = compile_workflow(workflow, chords=config.has_chords)
    runtime = runtime_of(config, steps)
    prepare(runtime.database)
    return runtime, plan


def _tell_slots(using: Backend, wanted: int, display: Display) -> None:
    if not using.is_embedded:
        display.say("note: --concurrency is for the embedded stack; with CELERY_BROKER_URL the workers decide")
        return
    slots = using.slots()
    if slots is not None and slots != wanted:
        display.say(f"note: the embedded stack of this home is up already, with {slots} slots")


def _first_answer(run_id: str, using: Backend) -> str:
    short = run_id[:8]
    after = (
        "stops the embedded stack; the run goes on with the next one"
        if using.holds_stack
        else "leaves; the run goes on without this command"
    )
    lines = (
        (f"celeriac watch {short}", "follow it from elsewhere"),
        (f"celeriac cancel {short}", "cancel it"),
        ("Ctrl-C again", after),
    )
    return f"nothing is cancelled: run {short} goes on\n" + "\n".join(f"  {what:<25} {why}" for what, why in lines)


def edited(config: Config, name: str | None, steps: StepRegistry) -> Definition | None:
    """The definition that a rerun is given, checked and compiled; None when it is given none.

    Raises:
        DefinitionError, NotFoundError, UnservedQueueError: as for a run.
    """
    if name is None:
        return None
    from workflows.compile import compile_workflow
    from workflows.engine.rerun import Definition
    from workflows.steps.registry import schemas

    source = definitions.find(name)
    workflow = definitions.parse(source, schemas(steps))
    definitions.check_queues(workflow, config)
    return Definition(compile_workflow(workflow, chords=config.has_chords), source.text)


def check_retryable(run: RunView) -> str:
    """The id of a run that can go on.

    Raises:
        ConflictError: it has not failed.
    """
    if run.status not in ("FAILURE", "REVOKED"):
        raise ConflictError(
            f"run {run.run_id} is {run.status} and cannot be retried",
            f"follow it with `celeriac watch {run.run_id[:8]}`"
            if not run.is_ended
            else "start a new one with `celeriac run`",
        )
    return run.run_id
