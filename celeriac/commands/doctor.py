"""`celeriac doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from celeriac.output import json_option, print_json
from workflows.settings import Config

_LOOKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@click.command("doctor")
@json_option('Print {"ok", "checks": [...]}.')
def command(as_json: bool) -> int:
    """Check this installation, and say how to mend it.

    Changes nothing. Exit code 2 when something must be mended before runs can work; warnings do not count.
    """
    from celeriac.checkup import examine

    findings = []
    for finding in examine(Config.from_env()):
        findings.append(finding)
        if not as_json:
            mark, colour = _LOOKS[finding.verdict]
            click.echo(f"{click.style(mark, fg=colour)} {finding.verdict:<4}  {finding.name:<10} {finding.message}")
            if finding.hint:
                click.echo(f"{'':<19}hint: {finding.hint}")
    ok = all(finding.verdict != "fail" for finding in findings)
    if as_json:
        print_json({"ok": ok, "checks": [asdict(finding) for finding in findings]})
    return 0 if ok else 2
