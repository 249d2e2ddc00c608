"""The steps that the benchmarks run; workers load them by CELERIAC_STEP_MODULES."""

from __future__ import annotations

import threading

from pydantic import BaseModel

from benchmarks import profiling
from workflows.steps import StepContext, step

profiling.begin_in_worker_children()


class Nothing(BaseModel):
    """No input, no output."""


class Nap(BaseModel):
    ms: int


class Count(BaseModel):
    count: int


class Numbers(BaseModel):
    values: list[int]


class Number(BaseModel):
    value: int


@step("bench.noop")
def noop(inp: Nothing, _ctx: StepContext) -> Nothing:
    """Nothing at all."""
    return inp


@step("bench.nap")
def nap(inp: Nap, _ctx: StepContext) -> Nothing:
    """`ms` of sleep."""
    threading.Event().wait(inp.ms / 1000)
    return Nothing()


def _nap_of(value: int) -> None:
    """5 to 25 ms, other for each call and the same in each run."""
    threading.Event().wait((5 + value * 7919 % 21) / 1000)


@step("bench.half")
def half(inp: Number, _ctx: StepContext) -> Number:
    """Half of what `bench.both` does."""
    _nap_of(inp.value)
    return inp


@step("bench.both")
def both(inp: Number, _ctx: StepContext) -> Number:
    """What two maps of `bench.half` do to a value."""
    _nap_of(inp.value)
    _nap_of(inp.value)
    return inp


@step("bench.numbers")
def numbers(inp: Count, _ctx: StepContext) -> Numbers:
    """What a map goes over."""
    return Numbers(values=list(range(inp.count)))


@step("bench.call")
def call(_inp: Number, _ctx: StepContext) -> Nothing:
    """A call of a map that does nothing."""
    return Nothing()
