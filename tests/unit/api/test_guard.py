from __future__ import annotations

from typing import Any

import pytest

from api.guard import Rules, refusal_of
from api.problems import ForbiddenError
from workflows.settings import Config


def _scope(
    client: tuple[str, int] | None = ("127.0.0.1", 5000),
    server: tuple[str, int | None] = ("127.0.0.1", 8000),
    **headers: str,
) -> dict[str, Any]:
    given = {"host": "localhost:8000", **headers}
    return {
        "type": "http",
        "scheme": "http",
        "client": client,
        "server": server,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST:1", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000"]
)
def test_a_host_header_that_names_this_machine_is_let_in(host: str) -> None:
    assert refusal_of(_scope(host=host), Rules()) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "[::1]x", "10.0.0.1", "0.0.0.0"],
)
def test_a_host_header_that_names_another_is_refused(host: str) -> None:
    assert isinstance(refusal_of(_scope(host=host), Rules()), ForbiddenError)


@pytest.mark.parametrize("client", ["10.0.0.7", "192.168.1.2", "::ffff:10.0.0.7", "2001:db8::1", "testclient"])
def test_a_client_of_another_machine_is_refused_whatever_the_server_is_bound_to(client: str) -> None:
    assert isinstance(refusal_of(_scope(client=(client, 1), server=("0.0.0.0", 8000)), Rules()), ForbiddenError)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_a_client_of_this_machine_is_let_in(client: str) -> None:
    assert refusal_of(_scope(client=(client, 1)), Rules()) is None


def test_a_unix_socket_is_let_in_and_a_missing_client_is_not() -> None:
    assert refusal_of(_scope(client=None, server=("/run/api.sock", None)), Rules()) is None
    assert isinstance(refusal_of(_scope(client=None), Rules()), ForbiddenError)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:3000", "https://localhost:8000", ""]
)
def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    assert isinstance(refusal_of(_scope(origin=origin), Rules()), ForbiddenError)


def test_the_own_page_and_listed_ones_are_let_in() -> None:
    rules = Rules.of(
        Config({"CELERIAC_ALLOWED_ORIGINS": "http://localhost:3000/, ", "CELERIAC_ALLOWED_HOSTS": "Lab.example"})
    )
    assert refusal_of(_scope(origin="http://localhost:8000"), rules) is None
    assert refusal_of(_scope(origin="http://localhost:3000"), rules) is None
    assert refusal_of(_scope(host="lab.example:80"), rules) is None
