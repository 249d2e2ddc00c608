"""The way in and out: whatever a command raises becomes a line for people and an exit code."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click

from celeriac.cli import cli
from workflows.model.errors import CeleriacError
from workflows.settings import Config

EXIT_FAILED = 1
"""The run failed or was cancelled."""

EXIT_USAGE = 2
"""Wrong usage, bad input, or something that the command needs is not there."""

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main() -> None:
    """Run the command line, and exit."""
    # As `python -m` does it, so that a module of steps beside the definition is found; last, so that it hides nothing.
    sys.path.append(str(Path.cwd()))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where a terminal cannot show a mark or a title, a '?' stands for it.
        sys.stdout.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    try:
        # Without click's own handling, which would let a CeleriacError through as a traceback.
        result = cli.main(arguments, prog_name="celeriac", standalone_mode=False)
        sys.stdout.flush()
    except CeleriacError as error:
        _tell(error)
        return error.exit_code
    except click.UsageError as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            return EXIT_USAGE
        command = error.ctx.command_path if error.ctx else "celeriac"
        _say(f"error: {_lowered(error.format_message())}", f"see `{command} --help`")
        return EXIT_USAGE
    except click.ClickException as error:
        _say(f"error: {error.format_message()}")
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug of ours, reported as such
        _report_bug(error)
        return EXIT_USAGE
    return result if isinstance(result, int) else 0


def _tell(error: CeleriacError) -> None:
    if Config.from_env().env.get("CELERIAC_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    _say(f"error: {error}", error.hint)


def _report_bug(error: Exception) -> None:
    import tempfile
    import traceback

    if Config.from_env().env.get("CELERIAC_DEBUG") == "1":
        traceback.print_exception(error)
        return
    with tempfile.NamedTemporaryFile("w", prefix="celeriac-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    first_line = (str(error).splitlines() or [""])[0]
    _say(
        f"error: this should not have happened: {type(error).__name__}: {first_line}",
        f"the traceback is in {file.name}; CELERIAC_DEBUG=1 shows it here",
    )


def _say(message: str, hint: str = "") -> None:
    click.echo(message, err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def _lowered(message: str) -> str:
    """Click's sentences, as ours are written: no capital, no full stop."""
    return message[:1].lower() + message[1:].removesuffix(".")
