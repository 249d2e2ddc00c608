"""/api/v1/schedules: what is made, seen, changed and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Served, served
from workflows.scheduling.sync import sync

DECLARED = """
id: timed
params: {node: {type: string, default: a}}
triggers:
  - schedule: {cron: "0 3 * * *", timezone: Europe/Berlin, params: {node: nightly}}
steps:
  a: {uses: ledger.nap, with: {node: "${{ params.node }}"}}
"""


@pytest.fixture
def api(settings: dict[str, str]) -> Any:
    (Path(settings["CELERIAC_DEFINITIONS"]) / "timed.yaml").write_text(DECLARED)
    with served(settings) as answering:
        services = answering.app.state.services
        sync(services.runtime, services.catalogue.all())
        yield answering


def send(api: Served, method: str, path: str, status: int, body: Any = None) -> Any:
    answer = api.http.request(method, f"/api/v1/schedules{path}", json=body)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
    return answer.json() if answer.content else None


def test_a_schedule_is_made_changed_and_removed(api: Served) -> None:
    wish = {"workflow": "pair", "cron": "*/30 8-18 * * mon-fri", "timezone": "Asia/Kolkata", "params": {"ms": 3}}
    made = send(api, "POST", "", 201, wish)
    assert (made["name"], made["origin"], made["catchup"], made["overlap"]) == ("pair", "person", "last", "skip")
    assert send(api, "GET", "/pair", 200) == made
    changed = send(api, "PATCH", "/pair", 200, {"catchup": "all", "is_enabled": False})
    assert (changed["overlap"], changed["is_enabled"], changed["next_fire_at"]) == ("queue", False, None)
    times = send(api, "GET", "/pair/next?count=3", 200)["times"]
    assert times[0]["fire_at"] == made["next_fire_at"]
    assert all(one["fire_time"].endswith("+05:30") for one in times)
    send(api, "DELETE", "/pair", 204)
    send(api, "GET", "/pair", 404)


def test_schedules_are_listed_page_by_page(api: Served) -> None:
    for name in ("b", "a.x", "c"):
        send(api, "POST", "", 201, {"workflow": "pair", "cron": "@daily", "name": name})
    first = send(api, "GET", "?limit=2", 200)
    rest = send(api, "GET", f"?limit=10&cursor={first['next']}", 200)
    assert [one["name"] for one in (*first["schedules"], *rest["schedules"])] == ["a.x", "b", "c", "timed"]
    assert rest["next"] is None
    assert [one["name"] for one in send(api, "GET", "?workflow=timed", 200)["schedules"]] == ["timed"]


def test_what_a_definition_declares_is_only_switched(api: Served) -> None:
    assert send(api, "GET", "/timed", 200)["origin"] == "definition"
    send(api, "PATCH", "/timed", 409, {"cron": "@daily"})
    send(api, "DELETE", "/timed", 409)
    assert send(api, "PATCH", "/timed", 200, {"is_enabled": False})["is_enabled"] is False


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"workflow": "nothing", "cron": "@daily"}, 404, "no workflow 'nothing'"),
        ({"workflow": "broken", "cron": "@daily"}, 422, "errors"),
        ({"workflow": "pair"}, 422, "cron"),
        ({"workflow": "pair", "cron": "daily"}, 422, "no cron expression"),
        ({"workflow": "pair", "cron": "@daily", "timezone": "Mars"}, 422, "no time zone"),
        ({"workflow": "pair", "cron": "@daily", "timezone": "a\x00"}, 422, "no time zone"),
        ({"workflow": "pair", "cron": "@daily", "params": {"ms": -1}}, 422, "ms"),
        ({"workflow": "pair", "cron": "@daily", "name": "a/b"}, 422, "no name"),
        ({"workflow": "pair", "cron": "@daily", "every": 1}, 422, "every"),
        ({"workflow": "pair", "cron": "@daily", "is_enabled": "yes"}, 422, "is_enabled"),
        ({"workflow": "pair", "cron": "@daily", "catchup": "all", "overlap": "skip"}, 422, "do away"),
        ({"workflow": "pair", "cron": "@daily", "name": "timed"}, 409, "already"),
        ([], 422, "not a JSON object"),
    ],
)
def test_what_cannot_be_is_refused(api: Served, body: Any, status: int, told: str) -> None:
    assert told in str(send(api, "POST", "", status, body))


@pytest.mark.parametrize("name", ["nobody", "a%00b", "a%20b", "x" * 300, "..%2f"])
def test_a_name_that_is_none_is_not_found(api: Served, name: str) -> None:
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/next"),
        ("GET", "/fires"),
        ("POST", "/run"),
    ):
        send(api, method, f"/{name}{path}", 404, {} if method == "PATCH" else None)


def test_a_run_of_a_schedule_says_whose_it_is(api: Served) -> None:
    accepted = send(api, "POST", "/timed/run", 202)
    run = api.http.get(f"/api/v1/runs/{accepted['run_id']}").json()
    assert (run["schedule"], run["fire_time"], run["params"]) == ("timed", None, {"node": "nightly"})


def test_a_backfill_is_told_and_seen(api: Served) -> None:
    span = {"from": "2026-03-28", "to": "2026-03-31T00:00+02:00"}
    assert len(send(api, "POST", "/timed/backfill?dry_run=true", 202, span)["queued"]) == 3
    assert send(api, "GET", "/timed/fires", 200) == {"fires": [], "next": None}
    queued = send(api, "POST", "/timed/backfill", 202, span)["queued"]
    assert [one["fire_time"] for one in queued] == [
        "2026-03-28T03:00:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T03:00:00+02:00",
    ]
    page = send(api, "GET", "/timed/fires?limit=2", 200)
    rest = send(api, "GET", f"/timed/fires?limit=2&cursor={page['next']}", 200)
    assert [one["status"] for one in (*page["fires"], *rest["fires"])] == ["WAITING"] * 3
    for wrong in ({"from": "x", "to": "y"}, {"from": "2026-03-01"}, {"from": "0001-01-01", "to": "2026-01-01"},
                  {"from": "2026-03-01", "to": "9999-12-31"}):  # fmt: skip
        send(api, "POST", "/timed/backfill", 422, wrong)
