"""`/api/v1/schedules`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.access import Scope, needs
from api.bodies import RawBody, json_object
from api.documents import problems
from api.models import Accepted
from api.problems import RequestError
from api.services import PATIENCE_SECONDS, Served
from workflows.db import schedules
from workflows.db.database import Transaction
from workflows.model.errors import NotFoundError
from workflows.model.names import IDENTIFIER
from workflows.model.spec import Catchup, Overlap
from workflows.scheduling import firing, verbs
from workflows.scheduling.verbs import NAME, Wish
from workflows.scheduling.views import fire_view, instant_of, times, view, views

router = APIRouter(prefix="/api/v1/schedules", tags=["schedules"], dependencies=[needs(Scope.READ)])

MOST = 1000
Limit = Annotated[int, Query(ge=1, le=MOST)]
M = TypeVar("M", bound=BaseModel)


class Change(BaseModel):
    """What shall change of a schedule; one that a definition declares can only be enabled and disabled."""

    model_config = ConfigDict(extra="forbid", strict=True)

    cron: str | None = None
    timezone: str | None = None
    catchup: Literal["skip", "last", "all"] | None = None
    overlap: Literal["skip", "queue", "allow", "cancel_running"] | None = None
    params: dict[str, Any] | None = None
    is_enabled: bool | None = None


class NewSchedule(Change):
    """A schedule to be made; its name is the workflow's id when it is left out."""

    workflow: str
    cron: str
    name: str | None = None


class Span(BaseModel):
    """Past times to be filled, ISO 8601, `from` included; without an offset in the schedule's zone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    begin: str = Field(alias="from")
    end: str = Field(alias="to")


class Schedule(BaseModel):
    """A schedule.

    Attributes:
        origin: `definition`, or `person` when it was made by command line or API.
        params: What its runs are given; the rest are defaults.
        next_fire_at: Null while it is disabled.
        last_fire_at: The latest time that has fired.
        problem: Why it does not run the newest text of its workflow.
    """

    name: str
    workflow: str
    origin: str
    cron: str
    timezone: str
    catchup: str
    overlap: str
    params: dict[str, Any]
    is_enabled: bool
    next_fire_at: int | None
    last_fire_at: int | None
    problem: str | None
    created_at: float
    updated_at: float


class Schedules(BaseModel):
    """A page of schedules by name; `next` is the cursor of the following page."""

    schedules: list[Schedule]
    next: str | None


class Time(BaseModel):
    """A time of a schedule, and as its zone's clocks show it."""

    fire_at: int
    fire_time: str


class Times(BaseModel):
    """The next times of a schedule; of a disabled one, those that it would have."""

    times: list[Time]


class Fire(Time):
    """What was decided about a time.

    Attributes:
        status: `FIRED`, `WAITING` for the run before it, `SKIPPED` because of that, `MISSED` while no scheduler ran, or
            `FAILED` because no run could be made.
        missed: Of a missed time: how many there were up to it, at least.
    """

    status: str
    detail: str | None
    missed: int
    run_id: str | None
    decided_at: float


class Fires(BaseModel):
    """A page of times that were decided about, the latest first; `next` is the cursor of the following page."""

    fires: list[Fire]
    next: str | None


class Filled(BaseModel):
    """What a backfill has queued, and the times that had fired or were waiting already."""

    queued: list[Time]
    decided: list[Time]
    dry_run: bool


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.get("")
def list_schedules(
    served: Served,
    workflow: Annotated[str | None, Query(pattern=f"^{IDENTIFIER.pattern}$")] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(pattern=f"^{NAME.pattern}$", description="`next` of the page before.")] = None,
) -> Schedules:
    """Schedules by name."""

    def work(tx: Transaction) -> list[dict[str, Any]]:
        return views(tx, schedules.page(tx, workflow=workflow or "", after=cursor or "", limit=limit + 1))

    found = served.read(work)
    return Schedules(
        schedules=[Schedule(**one) for one in found[:limit]],
        next=found[limit - 1]["name"] if len(found) > limit else None,
    )


@router.post(
    "",
    status_code=201,
    dependencies=[needs(Scope.OPERATE)],
    openapi_extra=_body(NewSchedule),
    responses=problems(404, 409, 413, 422),
)
def create_schedule(body: RawBody, served: Served, response: Response) -> Schedule:
    """Make a schedule of a workflow, beside those that its definition declares."""
    given = _read(NewSchedule, body)
    entry = served.catalogue.get(given.workflow)
    name = given.name or entry.id
    made = verbs.add(served.runtime, entry, name, _wish(given), patience_seconds=PATIENCE_SECONDS)
    response.headers["Location"] = f"{router.prefix}/{made.name}"
    return Schedule(**served.read(lambda tx: view(tx, made)))


@router.get("/{name}", responses=problems(404))
def get_schedule(name: str, served: Served) -> Schedule:
    """One schedule."""
    return Schedule(**served.read(lambda tx: view(tx, _find(tx, name))))


@router.patch(
    "/{name}",
    dependencies=[needs(Scope.OPERATE)],
    openapi_extra=_body(Change),
    responses=problems(404, 409, 413, 422),
)
def change_schedule(name: str, body: RawBody, served: Served) -> Schedule:
    """Change a schedule, or switch it on and off; times that pass while it is off are not made up for."""
    wish = _wish(_read(Change, body))
    changed = verbs.change(served.runtime, _known(name), wish, patience_seconds=PATIENCE_SECONDS)
    return Schedule(**served.read(lambda tx: view(tx, changed)))


@router.delete("/{name}", status_code=204, dependencies=[needs(Scope.OPERATE)], responses=problems(404, 409))
def delete_schedule(name: str, served: Served) -> None:
    """Remove a schedule and its history; its runs stay. One that a definition declares cannot be removed here."""
    verbs.remove(
        served.runtime,
        _known(name),
        is_declared=verbs.is_declared(served.catalogue, name),
        patience_seconds=PATIENCE_SECONDS,
    )


@router.get("/{name}/next", responses=problems(404))
def next_times(name: str, served: Served, count: Annotated[int, Query(ge=1, le=100)] = 10) -> Times:
    """The next times of a schedule."""
    found = served.read(lambda tx: times(_find(tx, name), schedules.now(tx), count))
    return Times(times=[Time(**one) for one in found])


@router.get("/{name}/fires", responses=problems(404))
def list_fires(
    name: str,
    served: Served,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,12}$", description="`next` of the page before.")] = None,
) -> Fires:
    """What became of the past times of a schedule, the latest first."""
    before = None if cursor is None else int(cursor)

    def work(tx: Transaction) -> list[dict[str, Any]]:
        schedule = _find(tx, name)
        found = schedules.fires(tx, schedule, before=before, limit=limit + 1)
        return [fire_view(schedule, fire) for fire in found]

    found = served.read(work)
    return Fires(
        fires=[Fire(**one) for one in found[:limit]],
        next=str(found[limit - 1]["fire_at"]) if len(found) > limit else None,
    )


@router.post("/{name}/run", status_code=202, dependencies=[needs(Scope.TRIGGER)], responses=problems(404))
def run_schedule(name: str, served: Served, response: Response) -> Accepted:
    """Start a run of a schedule at once, with its params; its times stay as they are."""
    accepted = firing.run_now(served.runtime, _known(name), patience_seconds=PATIENCE_SECONDS)
    response.headers["Location"] = f"/api/v1/runs/{accepted.run_id}"
    return Accepted.of(accepted)


@router.post(
    "/{name}/backfill",
    status_code=202,
    dependencies=[needs(Scope.OPERATE)],
    openapi_extra=_body(Span),
    responses=problems(404, 413, 422),
)
def backfill(
    name: str,
    body: RawBody,
    served: Served,
    dry_run: Annotated[bool, Query(description="Only say what would be done.")] = False,
) -> Filled:
    """Let past times of a schedule fire that have not, by its rule for overlaps."""
    span = _read(Span, body)
    schedule = served.read(lambda tx: _find(tx, name))
    begin, end = instant_of(span.begin, schedule), instant_of(span.end, schedule)
    found = verbs.backfill(
        served.runtime, schedule.name, begin, end, dry_run=dry_run, patience_seconds=PATIENCE_SECONDS
    )
    zone = schedule.times()
    queued, decided = (
        [Time(fire_at=at, fire_time=zone.text_of(at)) for at in part] for part in (found.queued, found.decided)
    )
    return Filled(queued=queued, decided=decided, dry_run=dry_run)


def _read(model: type[M], body: bytes) -> M:
    try:
        return model.model_validate(json_object(body))
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise RequestError(f"the body does not fit: {found[:1000]}") from None


def _wish(given: Change) -> Wish:
    return Wish(
        cron=given.cron,
        timezone=given.timezone,
        catchup=None if given.catchup is None else Catchup(given.catchup),
        overlap=None if given.overlap is None else Overlap(given.overlap),
        params=given.params,
        is_enabled=given.is_enabled,
    )


def _known(name: str) -> str:
    """A name that a schedule can have; anything else is not asked for."""
    if not NAME.fullmatch(name):
        raise NotFoundError(f"there is no schedule '{name[:100]}'")
    return name


def _find(tx: Transaction, name: str) -> schedules.Schedule:
    return schedules.find(tx, _known(name))
