"""Pictures of every view of the page, light and dark, for the documentation: `python -m tools.screenshots`.

They are of a stack that runs: definitions of its own, a worker, the shipped papers. Look at them before they are
committed.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.serving import serving
from tests.support.waiting import wait_until
from workflows.settings import Config

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "docs/images/page"
SIZE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
PATIENCE_MS = 30_000

WITHOUT_PATHS = """path => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(path, "/opt/celeriac");
}"""
"""Tracebacks name where the program lies."""

NIGHTLY = """
id: nightly-review
description: New papers are read, embedded and stored; somebody looks at them before they are published.
params:
  topic: {type: string, minLength: 3, default: retrieval augmented generation, description: What the papers are about.}
  pages: {type: integer, default: 40, minimum: 1, maximum: 500}
  mode: {type: string, enum: [full, quick], default: full}
triggers:
  - schedule: {cron: "0 3 * * *", timezone: Europe/Berlin, catchup: last}
steps:
  fetch: {uses: value, with: {pages: "${{ range(params.pages) }}", topic: "${{ params.topic }}"}}
  read:
    uses: value
    for_each: {items: "${{ steps.fetch.output.pages }}", key: "page-${{ item }}", max_parallel: 8}
    with: {page: "${{ item }}"}
  figures: {uses: value, needs: fetch, with: {found: 12}}
  embed: {uses: value, needs: read, with: {vectors: "${{ size(steps.read.outputs) }}"}}
  check: {uses: value, needs: [embed, figures], with: {ok: true}}
  publish_ok: {uses: approval, needs: check, with: {prompt: "publish what was found about '${{ params.topic }}'?"}}
  store: {uses: value, needs: publish_ok, with: {by: "${{ steps.publish_ok.output.by }}"}}
on_failure:
  tell: {uses: value, with: {text: "${{ run.id }} failed"}}
finally:
  tidy: {uses: value, with: {done: true}}
outputs: {vectors: "${{ steps.embed.output.vectors }}"}
"""
IMPORT = """
id: import-catalogue
description: Reads a catalogue that nobody has delivered.
steps:
  open: {uses: value, with: {rows: 0}}
  refuse: {uses: fail, when: "${{ steps.open.output.rows == 0 }}", with: {message: the catalogue is empty}}
  load: {uses: value, needs: refuse, with: {rows: 1}}
"""
WRONG = "id: half-written\nsteps:\n  fetch: {uses: value, needs: ftehc}\n  ftech: {uses: vale}\n"


@contextmanager
def stack(folder: Path) -> Iterator[httpx.Client]:
    """An installation of its own, with a worker and something to look at."""
    definitions = folder / "definitions"
    definitions.mkdir()
    for name, text in (("nightly-review", NIGHTLY), ("import-catalogue", IMPORT), ("half-written", WRONG)):
        (definitions / f"{name}.yaml").write_text(text.lstrip())
    env = {
        **Config.from_env().env,
        "CELERIAC_HOME": str(folder / "home"),
        "CELERIAC_DEFINITIONS": str(definitions),
        "CELERIAC_RATE_LIMIT": "0",
    }
    with serving(env, folder, "--with-worker", "--concurrency", "2") as (http, _, _):
        wait_until(lambda: is_healthy(http), 60, "the stack", interval=0.3)
        yield http


def is_healthy(http: httpx.Client) -> bool:
    """Whether a run that is started now would be carried out."""
    try:
        return http.get("/api/cronjobs/tasks/health-check").status_code == 200
    except httpx.TransportError:
        return False


def start(http: httpx.Client, workflow: str, until: str, **params: Any) -> str:
    """A run that has come to a state, or of which a step has."""
    run = http.post("/api/v1/runs", json={"workflow": workflow, "params": params}).json()["run_id"]

    def has_come() -> bool:
        states = [http.get(f"/api/v1/runs/{run}").json()["status"]]
        states += [step["status"] for step in http.get(f"/api/v1/runs/{run}/steps").json()["steps"]]
        return until in states

    wait_until(has_come, 120, f"{workflow} to be {until}", interval=0.2)
    return str(run)


def views(http: httpx.Client) -> Iterator[tuple[str, str, Callable[[Page], object] | None]]:
    """Name, address behind the `#`, and what is done there before the picture is taken."""
    review = start(http, "literature-review", "SUCCESS", max_papers=30)
    failed = start(http, "import-catalogue", "FAILURE")
    for topic in ("plant roots", "soil and water"):
        done = start(http, "nightly-review", "WAITING", topic=topic)
        http.post(f"/api/v1/runs/{done}/steps/publish_ok/approve", json={"comment": "well done"})
        wait_until(lambda run=done: http.get(f"/api/v1/runs/{run}").json()["status"] == "SUCCESS", 30)  # type: ignore[misc]
    asked = start(http, "nightly-review", "WAITING")
    yield "runs", "/runs", None
    yield "run-graph", f"/runs/{asked}", None
    yield "run-canvas", f"/runs/{asked}?layer=canvas", None
    yield "run-approval", f"/runs/{asked}?step=publish_ok", None
    yield "run-map", f"/runs/{review}?step=process_papers", None
    yield "run-failed", f"/runs/{failed}?step=refuse", None
    yield "run-steps", f"/runs/{asked}?tab=Steps", None
    yield "run-timeline", f"/runs/{review}?tab=Timeline", None
    yield "run-logs", f"/runs/{failed}?tab=Logs", None
    yield "run-data", f"/runs/{review}?tab=Data", None
    yield "run-rerun", f"/runs/{failed}", lambda page: page.get_by_role("button", name="Rerun").click()
    yield "run-cancel", f"/runs/{asked}", lambda page: page.get_by_role("button", name="Cancel").click()
    yield "workflows", "/workflows", None
    yield "workflow-graph", "/workflows/nightly-review", None
    yield "workflow-plan", "/workflows/nightly-review?tab=Plan", None
    yield "workflow-source", "/workflows/half-written?tab=Source", None
    yield "workflow-versions", "/workflows/nightly-review?tab=Versions", lambda page: page.get_by_text("Show").click()
    yield "workflow-schedule", "/workflows/nightly-review?tab=Schedule", None
    yield "workflow-runs", "/workflows/nightly-review?tab=Runs", None
    yield (
        "trigger",
        "/workflows/nightly-review",
        lambda page: page.get_by_role("button", name="Start a run").click(),
    )
    yield "search", "/search?q=testing%20machine%20learning%20programs", None
    yield "system", "/system", None


def take(browser: Browser, base: str, scheme: Any, size: Any, name: str, address: str, act: Any) -> None:
    """One picture, as WebP."""
    context = browser.new_context(base_url=base, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"/#{address}")
    page.wait_for_load_state("networkidle")
    if act is not None:
        act(page)
    page.evaluate(WITHOUT_PATHS, str(PROJECT))
    page.wait_for_timeout(700)  # the graph fits itself into its pane
    image = Image.open(io.BytesIO(page.screenshot()))
    image.convert("RGB").save(FOLDER / f"{name}-{scheme}.webp", quality=82, method=6)
    context.close()


def main() -> None:
    """Take all pictures anew; names on the command line take only those."""
    wanted = set(sys.argv[1:])
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder)) as http, sync_playwright() as playwright:
        base = str(http.base_url)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name, address, act in views(http):
            for scheme in ("light", "dark"):
                if not wanted or name in wanted:
                    take(browser, base, scheme, SIZE, name, address, act)
            if name in {"runs", "run-graph"} and (not wanted or "phone" in wanted):
                take(browser, base, "light", PHONE, f"phone-{name}", address, act)
        browser.close()


if __name__ == "__main__":
    main()
