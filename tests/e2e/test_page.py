"""The page in Debian's Chromium, against a stack that runs."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.servers import PROJECT, free_port
from tests.support.serving import serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("page")]

PATIENCE_MS = 60_000
HOSTILE = [
    "<script>window.hit=1</script>",
    "<img src=x onerror='window.hit=1'>",
    '"><svg onload=window.hit=1>',
    "javascript:window.hit=1//",
    "</title><iframe srcdoc='<script>parent.hit=1</script>'>",
    "{{constructor.constructor('window.hit=1')()}}",
    "\u202egnp.exe \u200b zero width",
    "A " + "very" * 60 + " long title",
]
DEFINITIONS = {
    "numbers": """
id: numbers
description: Loads, fails once, and maps.
params:
  rows: {type: integer, default: 12, minimum: 1, maximum: 20000}
steps:
  load: {uses: ledger.nap, with: {node: load, ms: 300}}
  rows:
    uses: ledger.nap
    needs: load
    for_each: {items: "${{ range(params.rows) }}", key: "${{ item }}"}
    with: {node: row}
  unlucky: {uses: ledger.fail, needs: load, with: {node: "${{ run.id }}", times: 1}}
  report: {uses: ledger.nap, needs: [rows, unlucky], with: {node: report}}
""",
    "slow": "id: slow\nsteps:\n  nap: {uses: ledger.nap, with: {node: nap, ms: 60000}}\n"
    "  after: {uses: ledger.nap, needs: nap, with: {node: after}}\n",
    "asked": """
id: asked
triggers:
  - schedule: {cron: "0 0 1 1 *", timezone: Europe/Berlin}
steps:
  draft: {uses: value, with: {title: roots}}
  release: {uses: approval, with: {prompt: "publish '${{ steps.draft.output.title }}'?", on_reject: continue}}
  told:
    uses: value
    with: {published: "${{ steps.release.output.approved }}", why: "${{ steps.release.output.comment }}"}
finally:
  tidy: {uses: value, with: {done: true}}
outputs: {published: "${{ steps.told.output.published }}"}
""",
    "wrong": "id: wrong\nsteps:\n  a: {uses: ledger.nap, needs: nobody, with: {node: a}}\n",
}


def five_hundred() -> str:
    chance = random.Random(5)
    lines = ["id: five-hundred", "steps:"]
    for layer in range(25):
        for at in range(20):
            needs = ", ".join(f"s{layer - 1}_{before}" for before in chance.sample(range(20), 2)) if layer else ""
            lines.append(f"  s{layer}_{at}: {{uses: ledger.nap, needs: [{needs}], with: {{node: s{layer}_{at}}}}}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an installation with definitions, a worker, and papers with hostile titles."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "definitions").mkdir()
    for name, text in {**DEFINITIONS, "five-hundred": five_hundred()}.items():
        (folder / "definitions" / f"{name}.yaml").write_text(text)
    papers = folder / "papers"
    papers.mkdir()
    with (papers / "corpus.jsonl").open("w") as corpus:
        for number in range(200):
            title = f"{HOSTILE[number % len(HOSTILE)]} {number}"
            text = f"{title} The study number {number} looks at plants."
            corpus.write(
                json.dumps({"_id": f"h{number}", "title": title, "text": text, "url": "javascript:hit=1"}) + "\n"
            )
    (folder / "ledger").touch()
    env = {
        **os.environ,
        "CELERIAC_HOME": str(folder / "home"),
        "CELERIAC_DEFINITIONS": str(folder / "definitions"),
        "CELERIAC_STEP_MODULES": "tests.support.ledger_steps",
        "CELERIAC_RATE_LIMIT": "0",
        "CELERIAC_CANCEL_GRACE_SECONDS": "2",
        "PYTHONPATH": str(PROJECT),
        "LEDGER": str(folder / "ledger"),
    }
    with serving(env, folder, "--with-worker", "--concurrency", "2") as (http, told, _):
        wait_until(lambda: _answers(http.base_url.port or 0), 60, "the API", interval=0.2)
        answer = http.post(
            "/api/cronjobs/literature-review/trigger?wait=120",
            json={"path": str(papers), "max_papers": 200},
            timeout=150,
        )
        assert answer.json()["status"] == "SUCCESS", answer.text
        yield str(told["url"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "Chromium is missing: apt-get install chromium"
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=options)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, base: str) -> Iterator[Page]:
    """A new page whose console must stay silent, and which asks no other host for anything."""
    context = browser.new_context(base_url=base, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    told: list[str] = []
    asked: set[str] = set()
    # Chromium reports an answer 422 by itself; the form asks for it.
    opened.on(
        "console",
        lambda message: told.append(message.text) if message.type == "error" and "422" not in message.text else None,
    )
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda request: asked.add(request.url.split("/", 3)[2]))
    yield opened
    context.close()
    assert told == []
    assert asked <= {base.removeprefix("http://")}


def start(page: Page, workflow: str, **params: str) -> str:
    """Start a run by the form; its id."""
    page.goto(f"/#/workflows/{workflow}")
    page.get_by_role("button", name="Start a run").click()
    for name, value in params.items():
        page.get_by_role("spinbutton", name=name).fill(value)
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url(re.compile(r"#/runs/"), timeout=PATIENCE_MS)
    return page.url.split("/runs/")[1].split("?")[0]


def state(page: Page, wanted: str) -> None:
    expect(page.locator(".summary .badge")).to_have_text(wanted, timeout=PATIENCE_MS)


def test_a_run_is_started_and_watched_fails_and_is_retried(page: Page) -> None:
    run = start(page, "numbers")
    state(page, "FAILURE")
    expect(page.locator(".node.failure .node-title")).to_have_text("unlucky")
    expect(page.locator(".node.skipped .node-title")).to_have_text("report")
    expect(page.locator(".route")).to_have_count(4)
    page.locator(".react-flow__node", has_text="unlucky").click()
    expect(page.get_by_role("complementary")).to_contain_text("TransientError")
    page.get_by_role("button", name="Retry", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("unlucky, report")
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    state(page, "SUCCESS")
    expect(page.locator(".summary")).to_contain_text("4 of 4 steps")
    page.get_by_role("button", name="Timeline").click()
    expect(page.locator(".lane")).to_have_count(4)
    page.goto("/#/runs?workflow=numbers")
    expect(page.get_by_role("link", name=run[:8])).to_be_visible()


def test_what_a_param_must_be_is_said_at_its_field(page: Page) -> None:
    page.goto("/#/workflows/numbers")
    page.get_by_role("button", name="Start a run").click()
    page.get_by_role("spinbutton", name="rows").fill("0")
    with page.expect_response(lambda response: response.status == 422) as answered:
        page.get_by_role("button", name="Start", exact=True).click()
    assert answered.value.json()["errors"]
    expect(page.get_by_role("spinbutton", name="rows")).to_have_attribute("aria-invalid", "true")


def test_a_run_is_cancelled_after_its_dry_run_was_shown(page: Page) -> None:
    start(page, "slow")
    expect(page.locator(".node.progress .node-title")).to_have_text("nap", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_contain_text("never started")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    state(page, "REVOKED")
    expect(page.locator(".node.revoked")).to_have_count(2)


def test_a_map_of_ten_thousand_calls_is_one_node_with_counts(page: Page) -> None:
    start(page, "numbers", rows="10000")
    state(page, "FAILURE")
    expect(page.locator(".node.map .node-note")).to_contain_text("10,000 of 10,000")
    page.locator(".react-flow__node", has_text="rows").click()
    expect(page.get_by_role("complementary")).to_contain_text("10,000 done, 0 failed of 10,000")
    expect(page.locator(".items li")).to_have_count(50)


def test_a_graph_of_five_hundred_steps_is_soon_there(page: Page) -> None:
    page.goto("/#/runs")
    began = time.monotonic()
    page.goto("/#/workflows/five-hundred")
    expect(page.locator(".react-flow__node")).to_have_count(500, timeout=PATIENCE_MS)
    assert time.monotonic() - began < 20, "with a wide margin for a busy machine"
    expect(page.get_by_label("Overview of the graph")).to_be_visible()


def test_a_question_is_answered_on_the_page(page: Page) -> None:
    run = start(page, "asked")
    expect(page.locator(".node.waiting .node-title")).to_have_text("release")
    page.goto("/#/runs")
    page.locator(f"a[href='#/runs/{run}?step=release']").click()
    panel = page.get_by_role("complementary")
    expect(panel).to_contain_text('"prompt": "publish \'roots\'?"')  # its input, evaluated
    panel.get_by_role("textbox", name="Comment").fill("too early")
    panel.get_by_role("button", name="Reject").click()
    state(page, "SUCCESS")
    expect(panel.get_by_role("region", name="Approval")).to_have_count(0)
    page.locator(".react-flow__node", has_text="told").click()
    expect(panel).to_contain_text('"why": "too early"')
    expect(page.locator(".frame.block")).to_have_text(["finally"])
    page.goto("/#/runs?workflow=asked&time=1h")
    expect(page.get_by_role("link", name=run[:8])).to_be_visible()
    page.get_by_role("link", name=run[:8]).click()
    page.get_by_role("button", name="Rerun").click()
    verdicts = page.get_by_role("dialog").get_by_role("row")
    expect(verdicts).to_have_count(5)
    expect(verdicts.nth(1)).to_contain_text("taken over")
    expect(verdicts.nth(4)).to_contain_text("belongs to the run that it ends")


def test_a_picture_that_nothing_changes_keeps_its_edges(page: Page) -> None:
    run = start(page, "slow")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    state(page, "REVOKED")
    for view in (f"/#/runs/{run}", f"/#/runs/{run}?step=nap", "/#/workflows/slow"):
        page.goto("/#/system")
        page.goto(view)
        expect(page.locator(".react-flow__node")).to_have_count(2)
        page.wait_for_timeout(500)  # React Flow measures what it has drawn, and draws again
        expect(page.locator(".route")).to_have_count(1)


def test_steps_are_chosen_by_mouse_and_keyboard_one_after_the_other(page: Page) -> None:
    start(page, "numbers")
    state(page, "FAILURE")
    panel = page.get_by_role("complementary").get_by_role("heading", level=2)
    for step in ("load", "report", "rows"):
        page.locator(".react-flow__node", has_text=step).click()
        expect(panel).to_have_text(step)
        # The panel takes a third of the place, and the graph still shows its last step whole.
        expect(page.locator(".react-flow__node", has_text="report")).to_be_in_viewport(ratio=1)
    for step in ("unlucky", "load"):
        page.locator(".react-flow__node", has_text=step).focus()
        page.keyboard.press("Enter")
        expect(panel).to_have_text(step)
    page.get_by_role("button", name="Close the step").click()
    expect(panel).to_have_count(0)


def test_a_workflow_shows_its_versions_and_when_it_runs(page: Page) -> None:
    start(page, "asked")
    page.goto("/#/workflows/asked?tab=Versions")
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_role("button", name=re.compile("Text of version")).click()
    expect(page.locator("pre")).to_contain_text("id: asked")
    page.get_by_role("button", name="Schedule").click()
    card = page.locator(".schedule")
    expect(card).to_contain_text("0 0 1 1 *")
    expect(card.get_by_text("-01-01T00:00:00+01:00")).to_have_count(5)
    card.get_by_role("button", name="Let it rest").click()
    expect(card).to_contain_text("It rests")
    card.get_by_role("button", name="Enable").click()
    expect(card).to_contain_text("Next times")
    card.get_by_role("button", name="Run now").click()
    page.wait_for_url(re.compile(r"#/runs/"), timeout=PATIENCE_MS)
    expect(page.locator(".summary")).to_contain_text("by schedule")
    page.goto("/#/workflows/numbers?tab=Schedule")
    expect(page.locator("main")).to_contain_text("It runs when somebody starts it")


def test_a_definition_with_errors_shows_them_at_their_lines(page: Page) -> None:
    page.goto("/#/workflows/wrong?tab=Source")
    expect(page.locator(".finding")).to_contain_text("nobody")
    expect(page.get_by_role("button", name="Start a run")).to_be_disabled()


def test_hostile_titles_of_papers_are_text(page: Page) -> None:
    for hostile in HOSTILE:
        page.goto(f"/#/search?q={quote(hostile)}")
        expect(page.locator(".hits h2", has_text=hostile[1:12]).first).to_be_visible()
    assert page.evaluate("window.hit") is None
    assert page.locator(".hits script, .hits img, .hits svg, .hits iframe, .hits h2 a").count() == 0
    page.get_by_role("link", name=re.compile("stored by run")).first.click()
    state(page, "SUCCESS")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_barrier(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    run = start(page, "numbers")
    state(page, "FAILURE")
    start(page, "asked")
    views = ["/#/runs", "/#/workflows", "/#/search?q=plants", "/#/system"]
    views += [f"/#/workflows/asked?tab={tab}" for tab in ("Graph", "Plan", "Source", "Versions", "Schedule", "Runs")]
    views += [f"/#/runs/{run}?tab={tab}&step=unlucky" for tab in ("Graph", "Steps", "Timeline", "Logs", "Data")]
    barriers = {}
    for view in views:
        page.goto(view)
        expect(page.locator("main h1, .panel")).not_to_have_count(0)
        expect(page.locator(".loading")).to_have_count(0, timeout=PATIENCE_MS)
        found = Axe().run(page).response["violations"]
        serious = [
            (one["id"], [node["html"][:120] for node in one["nodes"][:3]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        if serious:
            barriers[view] = serious
    assert barriers == {}


def test_a_phone_shows_runs_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for view in ("/#/runs", "/#/workflows", "/#/system"):
        page.goto(view)
        expect(page.locator("main h1")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view


def test_the_first_load_is_small(base: str) -> None:
    import gzip

    with httpx.Client(base_url=base) as http:
        index = http.get("/").text
        names = ["/", *re.findall(r'(?:src|href)="(/[^"]+)"', index)]
        assert sum(len(gzip.compress(http.get(name).content)) for name in names) < 250_000


def test_a_page_outlives_the_api(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    env = {**os.environ, "CELERIAC_HOME": str(tmp_path / "home"), "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}
    line = [sys.executable, "-m", "celeriac", "serve", "--port", str(port)]

    def serve() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(line, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: _answers(port), 60, "the API", interval=0.2)
        return process

    server = serve()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/#/runs")
        expect(page.get_by_text("Nothing has run yet")).to_be_visible(timeout=PATIENCE_MS)
        server.send_signal(signal.SIGKILL)
        server.wait()
        expect(page.get_by_role("alert")).to_contain_text("No connection", timeout=PATIENCE_MS)
        expect(page.get_by_text("Nothing has run yet")).to_be_visible()
        server = serve()
        expect(page.get_by_role("alert")).to_have_count(0, timeout=PATIENCE_MS)
    finally:
        context.close()
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False
