"""Which names a definition may use."""

from __future__ import annotations

import re

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""Ids of workflows and steps, names of params and outputs."""

QUEUE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,47}")
"""Names of queues: shorter, because a message names the queue of every step that it carries."""

STEP_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
"""Names that `uses:` takes."""
