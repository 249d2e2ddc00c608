"""What an operator looks at: metrics, and versions; without workers, on each database."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.api import DEFINITIONS, Served, served
from tests.support.servers import free_port

PAIR = """
id: pair
steps:
  a: {uses: ledger.nap, with: {node: a}}
  b: {needs: a, uses: ledger.nap, with: {node: b}}
"""
Sample = tuple[str, tuple[tuple[str, str], ...]]


def _metrics(api: Served) -> dict[Sample, float]:
    answer = api.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def _of(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_metrics_tell_what_is_open_and_what_waits_in_the_queues(api: Served) -> None:
    before = _metrics(api)
    assert _of(before, "celeriac_runs_open", status="PENDING") == 0
    for _ in range(3):
        api.http.post("/api/cronjobs/pair/trigger")
    cancelled = api.http.post("/api/cronjobs/pair/trigger").json()["task_id"]
    api.http.post(f"/api/cronjobs/tasks/{cancelled}/cancel")
    found = _metrics(api)
    assert _of(found, "celeriac_up", part="database") == _of(found, "celeriac_up", part="broker") == 1
    assert _of(found, "celeriac_runs_open", status="PENDING") == 3
    assert _of(found, "celeriac_runs_ended_recently", status="REVOKED") == 1
    assert _of(found, "celeriac_runs_ended_recently", status="FAILURE") == 0
    assert _of(found, "celeriac_queue_messages", queue="research") == 4
    assert _of(found, "celeriac_workers") == 0
    assert _of(found, "celeriac_schedules", state="enabled") == _of(found, "celeriac_schedules_late_seconds") == 0
    assert _of(found, "process_resident_memory_bytes") > 0
    assert not any(name == "celeriac_reconciler_age_seconds" for name, _ in found)


def test_metrics_say_what_is_away_and_are_answered_all_the_same(settings: dict[str, str]) -> None:
    away = {"CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with served({**settings, **away, "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none"}) as api:
        found = _metrics(api)
    assert _of(found, "celeriac_up", part="database") == _of(found, "celeriac_up", part="broker") == 0
    assert not any(name.startswith("celeriac_runs") for name, _ in found)


def test_labels_stay_bounded_whatever_queues_steps_name(settings: dict[str, str]) -> None:
    with served({**settings, "CELERIAC_QUEUES": "gpu"}) as api:
        found = _metrics(api)
    assert {dict(labels)["queue"] for name, labels in found if name == "celeriac_steps_ready"} == {
        "research", "processing", "gpu", "other",
    }  # fmt: skip


def test_versions_are_what_runs_started_with(api: Served, settings: dict[str, str]) -> None:
    path = "/api/v1/workflows/pair/versions"
    assert api.http.get(path).json() == {"versions": [], "next": None}
    api.http.post("/api/cronjobs/pair/trigger")
    (Path(settings["CELERIAC_DEFINITIONS"]) / "pair.yaml").write_text(PAIR)
    api.http.post("/api/cronjobs/pair/trigger")
    page = api.http.get(path, params={"limit": 1}).json()
    rest = api.http.get(path, params={"limit": 1, "cursor": page["next"]}).json()
    assert [version["is_current"] for version in page["versions"] + rest["versions"]] == [True, False]
    assert rest["next"] is None
    first = api.http.get(f"{path}/{rest['versions'][0]['fingerprint']}").json()
    assert first["source"] == DEFINITIONS["pair"]
    assert first["steps"] == 2
    for unknown in (f"{path}/abc", f"{path}/%00", "/api/v1/workflows/nope/versions", "/api/v1/workflows/%00/versions"):
        assert api.http.get(unknown).status_code == 404, unknown
