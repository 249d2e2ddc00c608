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


@step("bench.numbers")
def numbers(inp: Count, _ctx: StepContext) -> Numbers:
    """What a map goes over."""
    return Numbers(values=list(range(inp.count)))


@step("bench.call")
def call(_inp: Number, _ctx: StepContext) -> Nothing:
    """A call of a map that does nothing."""
    return Nothing()
