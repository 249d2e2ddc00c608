"""The `triggers` of a definition, read and checked piece by piece."""

from __future__ import annotations

from workflows.model.cron import Cron, CronError, TimezoneError
from workflows.model.diagnostics import Code
from workflows.model.expressions import template_texts
from workflows.model.language import SCHEDULE_KEYS, TRIGGER_KEYS
from workflows.model.nodes import Entry, ListNode, MapNode, Node, key_position_of, position_of, to_json
from workflows.model.params import schema_problems, value_problems
from workflows.model.reader import Reader
from workflows.model.schedules import DEFAULT_TIMEZONE, contradiction, default_overlap
from workflows.model.spec import Catchup, Json, Overlap, ParamSpec, Position, ScheduleSpec


def read_triggers(node: Node, params: tuple[ParamSpec, ...], read: Reader) -> tuple[ScheduleSpec, ...]:
    """The schedules under `triggers`, checked against the params of the workflow."""
    if not isinstance(node, ListNode):
        read.wrong_type(node, "'triggers'", "a list", "write each as an element: - schedule: {cron: ...}")
        return ()
    found: dict[str, ScheduleSpec] = {}
    for part in node.items:
        entry = _schedule_entry(part, read)
        spec = None if entry is None else _schedule(entry, params, read)
        if spec is None:
            continue
        if spec.id in found:
            what = f"the id '{spec.id}' is used twice" if spec.id else "a second schedule has no 'id'"
            read.report.add(Code.BAD_SCHEDULE, spec.position, what, "give each schedule an id of its own: id: weekly")
            continue
        found[spec.id] = spec
    return tuple(found.values())


def _schedule_entry(node: Node, read: Reader) -> Entry | None:
    mapping = read.mapping(node, "a trigger", "write - schedule: {cron: ...}")
    if mapping is None:
        return None
    read.check_keys(mapping, TRIGGER_KEYS, "a trigger")
    entry = mapping.entry("schedule")
    if entry is None:
        read.report.add(
            Code.MISSING_KEY, mapping.position, "a trigger has no 'schedule'", "write - schedule: {cron: ...}"
        )
    return entry


def _schedule(entry: Entry, params: tuple[ParamSpec, ...], read: Reader) -> ScheduleSpec | None:
    node = read.mapping(entry.node, "'schedule'", 'write schedule: {cron: "0 3 * * *"}')
    if node is None:
        return None
    read.check_keys(node, SCHEDULE_KEYS, "a schedule")
    name = read.optional(node, "id", read.identifier)
    timezone = _timezone(node, read)
    cron = _cron(node, entry, read)
    catchup = Catchup(
        read.optional(node, "catchup", lambda inner, what: read.choice(inner, what, tuple(Catchup))) or Catchup.LAST
    )
    overlap = read.optional(node, "overlap", lambda inner, what: read.choice(inner, what, tuple(Overlap)))
    rule = default_overlap(catchup) if overlap is None else Overlap(overlap)
    against = contradiction(catchup, rule)
    if against:
        read.report.add(
            Code.BAD_SCHEDULE, position_of(node, ("overlap",)), against, "use overlap: queue, or leave it out"
        )
    values = _params(node, entry.position, params, read)
    if cron is None or timezone is None:
        return None
    return ScheduleSpec(name or "", cron, timezone, catchup, rule, values, entry.position)


def _timezone(node: MapNode, read: Reader) -> str | None:
    if node.entry("timezone") is None:
        return DEFAULT_TIMEZONE
    name = read.optional(node, "timezone", read.text)
    if name is not None:
        try:
            Cron.parse("@daily", name)
        except TimezoneError as error:
            read.report.add(Code.BAD_TIMEZONE, position_of(node, ("timezone",)), str(error), error.hint)
            return None
    return name


def _cron(node: MapNode, schedule: Entry, read: Reader) -> str | None:
    if node.entry("cron") is None:
        read.report.add(Code.MISSING_KEY, schedule.position, "a schedule has no 'cron'", 'write cron: "0 3 * * *"')
        return None
    text = read.optional(node, "cron", read.text)
    if text is not None:
        try:
            Cron.parse(text)
        except CronError as error:
            read.report.add(Code.BAD_CRON, position_of(node, ("cron",)), str(error), error.hint)
            return None
    return text


def _params(node: MapNode, schedule: Position, specs: tuple[ParamSpec, ...], read: Reader) -> dict[str, Json]:
    """The params that the schedule gives; what it leaves out must have a default."""
    given = read.optional(node, "params", read.mapping)
    values: dict[str, Json] = {} if given is None else to_json(given)
    known = {spec.name: spec for spec in specs}
    for name, value in values.items():
        assert given is not None
        if name not in known:
            hint = read.report.did_you_mean(name, known) or "declare it under 'params' of the workflow"
            place = key_position_of(given, (name,))
            read.report.add(Code.UNKNOWN_PARAM, place, f"param '{name}' is not declared", hint)
        for _ in template_texts(value):
            place = position_of(given, (name,))
            read.report.add(Code.EXPRESSION_NOT_ALLOWED, place, "the params of a schedule are fixed values")
    for spec in specs:
        if spec.name not in values:
            if spec.required:
                read.report.add(
                    Code.SCHEDULE_PARAMS,
                    schedule,
                    f"param '{spec.name}' has no default, and the schedule gives it no value",
                    f"write params: {{{spec.name}: ...}} in the schedule, or give the param a default",
                )
        elif given is not None and not any(schema_problems(spec.schema)):
            for problem in value_problems(spec, values[spec.name]):
                place = position_of(given, (spec.name, *problem.path))
                read.report.add(
                    Code.SCHEDULE_PARAMS, place, f"param '{spec.name}' does not fit: {problem.message}", problem.hint
                )
    return values
