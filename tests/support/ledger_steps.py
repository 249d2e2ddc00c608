"""Steps that the engine's tests use. What they did is read from the file that LEDGER names, a line for each event.

Appending a short line is atomic, so many processes may write at once, and nothing of it depends on the engine.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import text

from workflows.steps import PermanentError, StepContext, TransientError, step


class Nap(BaseModel):
    """`ms` of sleep; `node` is written to the ledger."""

    node: str
    ms: int = 0


class Done(BaseModel):
    """Which node it was."""

    node: str


class Fail(BaseModel):
    """Fails `times` times, counted over all processes by the ledger, then succeeds."""

    node: str
    times: int = 1_000_000
    permanent: bool = False


class Numbers(BaseModel):
    """How many, or which."""

    num: int = 0
    values: list[int] = []
    fail_on: list[int] = []
    ms: int = 0


class Anything(BaseModel):
    """Whatever the definition gives."""

    value: Any = None


def write(event: str, node: str, *details: object) -> None:
    """Add a line to the ledger: event, node, process id, monotonic time, details."""
    line = " ".join(str(part) for part in (event, node, os.getpid(), time.monotonic(), *details))
    descriptor = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (line + "\n").encode())
    finally:
        os.close(descriptor)


def _nap(ms: int) -> None:
    threading.Event().wait(ms / 1000)


@step("ledger.nap")
def nap(inp: Nap, ctx: StepContext) -> Done:
    """Sleep between two lines of the ledger."""
    write("start", inp.node, ctx.attempt, ctx.idempotency_key)
    if inp.ms:
        _nap(inp.ms)
    write("end", inp.node, ctx.attempt)
    ctx.log.info("slept %s ms", inp.ms)
    return Done(node=inp.node)


@step("ledger.spin")
def spin(inp: Nap, ctx: StepContext) -> Done:
    """Compute without ever giving the processor back."""
    write("start", inp.node, ctx.attempt)
    until = time.monotonic() + inp.ms / 1000
    while time.monotonic() < until:
        pass
    write("end", inp.node, ctx.attempt)
    return Done(node=inp.node)


@step("ledger.wait_for_cancel")
def wait_for_cancel(inp: Nap, ctx: StepContext) -> Done:
    """Run until the run is cancelled."""
    write("start", inp.node)
    while True:
        ctx.check_cancelled()
        _nap(50)


@step("ledger.leave")
def leave(inp: Nap, ctx: StepContext) -> Done:
    """Call `sys.exit`, as programs made for the command line do."""
    sys.exit(3)


@step("ledger.half")
def half(inp: Nap, ctx: StepContext) -> Done:
    """Say that half is done, and wait for the word `go` in the ledger."""
    ctx.progress(1, 2)
    while "go" not in Path(os.environ["LEDGER"]).read_text():
        _nap(20)
    return Done(node=inp.node)


@step("ledger.fail")
def fail(inp: Fail, ctx: StepContext) -> Done:
    """Fail as often as asked."""
    write("start", inp.node, ctx.attempt)
    before = Path(os.environ["LEDGER"]).read_text().count(f"failed {inp.node} ")
    if before < inp.times:
        write("failed", inp.node)
        raise PermanentError("as asked") if inp.permanent else TransientError("as asked")
    return Done(node=inp.node)


@step("ledger.die")
def die(inp: Fail, ctx: StepContext) -> Done:
    """Kill the own process as often as asked."""
    write("start", inp.node, ctx.attempt)
    before = Path(os.environ["LEDGER"]).read_text().count(f"died {inp.node} ")
    if before < inp.times:
        write("died", inp.node)
        os.kill(os.getpid(), signal.SIGKILL)
    write("end", inp.node)
    return Done(node=inp.node)


@step("ledger.count_up")
def count_up(inp: Nap, ctx: StepContext) -> Done:
    """Add one to a counter in the step's own transaction: a double commit would show."""
    if inp.ms:
        _nap(inp.ms)
    with ctx.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO effects (node, count) VALUES (:node, 1) "
                "ON CONFLICT (node) DO UPDATE SET count = effects.count + 1"
            ),
            {"node": inp.node},
        )
    return Done(node=inp.node)


@step("ledger.numbers")
def numbers(inp: Numbers, ctx: StepContext) -> Numbers:
    """The numbers from 0 to `num`."""
    return Numbers(values=list(range(inp.num)))


@step("ledger.double")
def double(inp: Numbers, ctx: StepContext) -> Numbers:
    """Twice the number; fails, or kills its process, on those of `fail_on` (negative: kills)."""
    if inp.ms:
        _nap(inp.ms)
    if inp.num in inp.fail_on:
        write("failed", f"n{inp.num}")
        raise TransientError(f"{inp.num} is not liked")
    if inp.num and -inp.num in inp.fail_on:
        write("died", f"n{inp.num}")
        os.kill(os.getpid(), signal.SIGKILL)
    return Numbers(num=inp.num * 2)


@step("ledger.sum")
def add(inp: Numbers, ctx: StepContext) -> Numbers:
    """The sum of `values`."""
    return Numbers(num=sum(inp.values))


@step("ledger.echo")
def echo(inp: Anything, ctx: StepContext) -> Any:
    """What it was given."""
    return inp.value
