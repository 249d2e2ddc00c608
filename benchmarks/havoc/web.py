"""The API as a patient caller uses it: what is not answered is asked again, under the same key."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import httpx

_log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 8.0
"""Longer than the API waits for a database, shorter than anybody waits for a process that is stopped."""

PAUSE_SECONDS = 0.1


class GaveUpError(Exception):
    """The caller was stopped before there was an answer."""


class Web:
    """Calls on the API at `url`; safe over threads.

    Args:
        definitions: A folder of the API's catalogue.
        stop: Ends all patience.
    """

    def __init__(self, url: str, definitions: Path, stop: threading.Event) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS)
        self._definitions = definitions
        self._stop = stop

    def publish(self, name: str, text: str) -> Path:
        """Put a definition where the API finds it."""
        file = self._definitions / f"{name}.yaml"
        new = file.with_suffix(".new")
        new.write_text(text)
        return new.replace(file)

    def trigger(self, workflow: str, key: str) -> str:
        """The id of the run."""
        return str(self._ask("POST", "/api/v1/runs", {"workflow": workflow}, {"Idempotency-Key": key})["run_id"])

    def cancel(self, run_id: str) -> dict[str, Any]:
        """The answer to a cancel, which may be asked again and again."""
        return self._ask("POST", f"/api/v1/runs/{run_id}/cancel")

    def retry(self, run_id: str) -> None:
        """Set a failed run going again, once: whether an unanswered try did is seen from the run's generation."""
        before = self.run(run_id)["generation"]
        while self.run(run_id)["generation"] == before:
            self._ask("POST", f"/api/v1/runs/{run_id}/retry", conflict_is_answer=True)

    def run(self, run_id: str) -> dict[str, Any]:
        """The run as anybody may read it."""
        return self._ask("GET", f"/api/v1/runs/{run_id}")

    def _ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        conflict_is_answer: bool = False,
    ) -> dict[str, Any]:
        while not self._stop.is_set():
            try:
                answer = self._http.request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                _log.info("asked again: %s", error)
            else:
                if answer.status_code < 500:
                    if not (conflict_is_answer and answer.status_code == 409):
                        answer.raise_for_status()
                    found: dict[str, Any] = answer.json()
                    return found
                _log.info("asked again: %s", answer.text[:200])
            self._stop.wait(PAUSE_SECONDS)
        raise GaveUpError
