"""How soon the page shows a graph of 500 steps, and answers to a click in it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright

from benchmarks.graphs import layered
from tests.support.serving import serving
from tests.support.waiting import wait_until

STEPS, GOAL_SECONDS = 500, 2.0
DRAWN = f"""() => document.querySelectorAll('.react-flow__node').length === {STEPS}
    && document.querySelectorAll('.route').length > {STEPS // 2}"""
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def measure(folder: Path, env: dict[str, str], repeat: int) -> dict[str, list[float]]:
    """Seconds from asking for the view to a painted frame after a zoom, of the definition and of an ended run."""
    (folder / "definitions").mkdir()
    (folder / "definitions/graph.yaml").write_text(layered(25, 20).definition("bench.noop"))
    env = {
        **env,
        "CELERIAC_HOME": str(folder / "home"),
        "CELERIAC_DEFINITIONS": str(folder / "definitions"),
        "CELERIAC_STEP_MODULES": "benchmarks.steps",
        "CELERIAC_RATE_LIMIT": "0",
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "Chromium is missing: apt-get install chromium"
    with serving(env, folder, "--with-worker", "--concurrency", "2") as (http, _, _), sync_playwright() as playwright:
        wait_until(lambda: _is_healthy(http), 60, "the stack", interval=0.3)
        name = http.get("/api/v1/workflows").json()["workflows"]
        workflow = next(one["id"] for one in name if one["steps"] == STEPS)
        run = http.post("/api/v1/runs", json={"workflow": workflow, "params": {}}).json()["run_id"]
        wait_until(lambda: http.get(f"/api/v1/runs/{run}").json()["status"] == "SUCCESS", 120, interval=0.3)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        views = {"definition": f"/#/workflows/{workflow}", "run": f"/#/runs/{run}"}
        found = {
            view: [_seconds(browser, str(http.base_url), address) for _ in range(repeat)]
            for view, address in views.items()
        }
        browser.close()
    return found


def _is_healthy(http: httpx.Client) -> bool:
    try:
        return http.get("/api/cronjobs/tasks/health-check").status_code == 200
    except httpx.TransportError:
        return False


def _seconds(browser: Browser, base: str, address: str) -> float:
    # Playwright evaluates by a string, which the page's own policy forbids.
    context = browser.new_context(base_url=base, viewport={"width": 1280, "height": 800}, bypass_csp=True)
    page = context.new_page()
    page.goto("/#/system")
    page.wait_for_load_state("networkidle")
    began = time.monotonic()
    page.goto(address)
    page.wait_for_function(DRAWN)
    page.locator(".react-flow__controls-zoomin").click()
    page.evaluate(PAINTED)
    seconds = time.monotonic() - began
    context.close()
    return seconds
