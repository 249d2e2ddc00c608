"""Keys, sessions and limits, over a real port."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.routing import APIRoute

from api.access import Scope, needed_scope
from api.application import ROUTERS
from api.guard import require_keys_beyond_loopback
from api.problems import ForbiddenError
from tests.support.api import Served, served
from tests.support.waiting import wait_until
from workflows.db import api_keys
from workflows.db.database import Database, Statement
from workflows.db.migrate import upgrade

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
CALLS = [(method, route) for route in ROUTES for method in sorted(route.methods or ())]

_addresses = itertools.count(1)


def _from_elsewhere() -> dict[str, str]:
    """Headers of a proxy on this machine; each time for another client, whose wrong keys are counted apart."""
    number = next(_addresses)
    return {"X-Forwarded-For": f"203.0.{number // 250}.{number % 250 + 1}"}


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True)
class Keys:
    """A key for each scope, and some that are not valid."""

    by_scope: dict[Scope, str]
    expired: str
    revoked: str


@pytest.fixture
def database(settings: dict[str, str]) -> Iterator[Database]:
    opened = Database(settings["DATABASE_URL"])
    upgrade(opened)
    yield opened
    opened.close()


def _make(database: Database, scope: str, seconds: float | None = None) -> api_keys.NewKey:
    return database.retrying(lambda tx: api_keys.create_key(tx, f"{scope} key", scope, seconds))


@pytest.fixture
def keys(database: Database) -> Keys:
    by_scope = {scope: _make(database, scope.value).token for scope in Scope}
    expired, revoked = _make(database, "admin", 3600.0), _make(database, "admin")
    database.retrying(
        lambda tx: tx.run(Statement("UPDATE api_keys SET expires_at = {now} - 1 WHERE id = :id"), {"id": expired.id})
    )
    assert database.retrying(lambda tx: api_keys.revoke_key(tx, revoked.id))
    return Keys(by_scope, expired.token, revoked.token)


@pytest.fixture
def unlimited(settings: dict[str, str]) -> Iterator[Served]:
    with served({**settings, "CELERIAC_RATE_LIMIT": "0"}) as answering:
        yield answering


def _answer(api: Served, method: str, route: APIRoute, headers: dict[str, str]) -> int:
    path = route.path_format.format_map(dict.fromkeys(route.param_convertors, "x"))
    return api.http.request(method, path, headers=headers).status_code


def test_each_route_answers_each_identity_by_its_scope(keys: Keys, unlimited: Served) -> None:
    nobody: dict[str, Callable[[], dict[str, str]]] = {
        "none, loopback": dict,
        "none, elsewhere": _from_elsewhere,
        "wrong key": lambda: {**_from_elsewhere(), **_bearer("cel_aaaaaaaaaa_" + "A" * 43)},
        "not even a key": lambda: {**_from_elsewhere(), "X-API-Key": "x"},
        "another scheme": lambda: {**_from_elsewhere(), "Authorization": "Basic YTpi"},
        "expired": lambda: {**_from_elsewhere(), **_bearer(keys.expired)},
        "revoked": lambda: {**_from_elsewhere(), **_bearer(keys.revoked)},
        "wrong cookie": lambda: {"Cookie": "celeriac_session=" + "A" * 43},
    }
    without_key = ("none, loopback", "none, elsewhere", "wrong cookie")
    wrong: list[str] = []
    for method, route in CALLS:
        needed = needed_scope(route)
        for name, headers in nobody.items():
            found = _answer(unlimited, method, route, headers())
            is_let_in = needed is None and name in without_key
            # A login needs a key although anybody may ask for one.
            if (found != 401) != is_let_in and not (method == "POST" and route.path == "/api/v1/session"):
                wrong.append(f"{method} {route.path} as {name}: {found}")
        for scope, key in keys.by_scope.items():
            place = _from_elsewhere() if scope is Scope.TRIGGER else {}
            found = _answer(unlimited, method, route, {**_bearer(key), **place})
            is_refused = needed is not None and not scope.covers(needed)
            if (found == 403) != is_refused or found in (401, 500):
                wrong.append(f"{method} {route.path} with {scope}: {found}")
    assert not wrong, "\n".join(wrong)
    assert len(CALLS) >= 30


def test_without_keys_loopback_may_do_everything_and_all_others_nothing(unlimited: Served) -> None:
    wrong = []
    for method, route in CALLS:
        is_login = route.path == "/api/v1/session" and method == "POST"
        here, elsewhere = (
            _answer(unlimited, method, route, {}),
            _answer(unlimited, method, route, _from_elsewhere()),
        )
        if here in (401, 403, 500) and not is_login:
            wrong.append(f"{method} {route.path} from here: {here}")
        if (elsewhere == 403) != (needed_scope(route) is not None) and not is_login:
            wrong.append(f"{method} {route.path} from elsewhere: {elsewhere}")
    assert not wrong, "\n".join(wrong)


TRICKS = [
    "//api/v1/keys",
    "/api//v1/keys",
    "/api/v1/keys/",
    "/api/v1/keys//",
    "/api/v1/./keys",
    "/livez/../api/v1/keys",
    "/livez/%2e%2e/api/v1/keys",
    "/%2e%2e/api/v1/keys",
    "/api/v1%2fkeys",
    "/api/v1/%6beys",
    "/api/v1/keys%00",
    "/api/v1/keys%0a",
    "/api/v1/keys;x=/livez",
    "/api/v1/keys?x=/livez",
    "/api/v1/keys#/livez",
    "/API/V1/KEYS",
    "/livez%2f..%2fapi/v1/keys",
    "\\api\\v1\\keys",
    "/api/v1/session/../keys",
    "/api/v1/session%2f..%2fkeys",
    "http://localhost/api/v1/keys",
    "/openapi.json",
    "/docs",
    "/nothing",
]
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "FROB", "get"]
OVERRIDES = {"X-HTTP-Method-Override": "GET", "X-Original-URL": "/livez", "X-Rewrite-URL": "/livez"}


def _raw(api: Served, method: str, target: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """A request whose target is sent as it is."""
    url = urlsplit(api.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_no_trick_with_paths_or_methods_gets_past_the_door(keys: Keys, unlimited: Served) -> None:
    for target, method in itertools.product(TRICKS, METHODS):
        status, body = _raw(unlimited, method, target, OVERRIDES)
        assert status in (400, 401), (method, target, status)
        assert b"keys" not in body
        status, body = _raw(unlimited, method, target, {**_bearer(keys.by_scope[Scope.READ]), **OVERRIDES})
        assert status in (400, 403, 404, 405) or target == "/openapi.json", (method, target, status)


def test_a_key_is_made_used_listed_and_revoked_over_the_api(api: Served) -> None:
    for life in (True, "3600", 0, -1):
        wrong = {"name": "ci", "scope": "admin", "expires_in_seconds": life}
        assert api.http.post("/api/v1/keys", json=wrong).status_code == 422
    made = api.http.post("/api/v1/keys", json={"name": "ci", "scope": "admin", "expires_in_seconds": 3600})
    assert made.status_code == 201, made.text
    key, key_id = made.json()["key"], made.json()["id"]
    assert api.http.get("/api/v1/keys").status_code == 401
    for headers in ({"X-API-Key": key}, {"authorization": f"bEaReR  {key}"}):
        assert api.http.get("/api/v1/keys", headers=headers).status_code == 200
    listed = api.http.get("/api/v1/keys", headers=_bearer(key))
    assert key not in listed.text
    assert listed.json()["keys"][0]["id"] == key_id
    assert listed.json()["keys"][0]["status"] == "active"
    assert api.http.delete(f"/api/v1/keys/{key_id}", headers=_bearer(key)).json() == {"id": key_id, "is_new": True}
    refused = api.http.get("/api/v1/keys", headers=_bearer(key))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert refused.json()["type"] == "urn:celeriac:problem:unauthorized"
    # The last key is gone, and nothing is open again.
    assert api.http.get("/api/v1/runs").status_code == 401


def test_only_hashes_are_kept(api: Served, settings: dict[str, str], database: Database) -> None:
    key = api.http.post("/api/v1/keys", json={"name": "x", "scope": "read"}).json()["key"]
    login = api.http.post("/api/v1/session", headers=_bearer(key))
    cookie = login.cookies["celeriac_session"]
    kept = str(database.retrying(lambda tx: tx.rows(Statement("SELECT * FROM api_keys"))))
    kept += str(database.retrying(lambda tx: tx.rows(Statement("SELECT * FROM api_sessions"))))
    assert key not in kept
    assert key.split("_", 2)[2] not in kept  # the secret may have a `_` of its own
    assert cookie not in kept
    assert api_keys.hashed(key) in kept


def test_another_process_that_makes_or_revokes_keys_is_obeyed_within_seconds(api: Served, database: Database) -> None:
    assert api.http.get("/api/v1/runs").status_code == 200
    made = _make(database, "read")
    wait_until(lambda: api.http.get("/api/v1/runs").status_code == 401, 10, "the door to close")
    assert api.http.get("/api/v1/runs", headers=_bearer(made.token)).status_code == 200
    database.retrying(lambda tx: api_keys.revoke_key(tx, made.id))
    wait_until(
        lambda: api.http.get("/api/v1/runs", headers=_bearer(made.token)).status_code == 401, 10, "the key to end"
    )


def test_the_last_use_is_written_once_in_a_while(api: Served, database: Database) -> None:
    made = _make(database, "read")
    wait_until(lambda: api.http.get("/api/v1/runs").status_code == 401, 10, "the key to be seen")

    def used() -> object:
        api.http.get("/api/v1/runs", headers=_bearer(made.token))
        return database.retrying(api_keys.list_keys)[0].last_used_at

    wait_until(used, 10, "the last use")
    first = used()
    for _ in range(20):
        assert used() == first


def test_an_operator_may_keep_loopback_open_or_closed(settings: dict[str, str], database: Database) -> None:
    with served({**settings, "CELERIAC_OPEN_LOOPBACK": "false"}) as closed:
        assert closed.http.get("/api/v1/runs").status_code == 401
    _make(database, "read")
    with served({**settings, "CELERIAC_OPEN_LOOPBACK": "true"}) as kept_open:
        assert kept_open.http.get("/api/v1/runs").status_code == 200
        assert kept_open.http.get("/api/v1/runs", headers=_from_elsewhere()).status_code == 403
        assert kept_open.http.get("/api/v1/runs", headers={"Host": "evil.example"}).status_code == 403


def test_who_binds_beyond_loopback_needs_a_key_first(database: Database) -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        require_keys_beyond_loopback(host, database)
    for host in ("0.0.0.0", "::", "192.168.1.5", "lab.example"):
        with pytest.raises(ForbiddenError, match="without keys"):
            require_keys_beyond_loopback(host, database)
    _make(database, "admin")
    require_keys_beyond_loopback("0.0.0.0", database)


# Sessions


@pytest.fixture
def page(keys: Keys, api: Served) -> Iterator[tuple[httpx.Client, str]]:
    """A browser that has logged in by a key that may operate, and the token that its page holds."""
    with httpx.Client(base_url=api.url, timeout=30) as browser:
        answer = browser.post("/api/v1/session", headers=_bearer(keys.by_scope[Scope.OPERATE]))
        assert answer.status_code == 200, answer.text
        cookie = answer.headers["Set-Cookie"]
        assert {part.strip() for part in cookie.split(";")[1:]} >= {"HttpOnly", "SameSite=strict", "Path=/"}
        assert "Secure" not in cookie
        yield browser, answer.json()["csrf_token"]


def test_a_page_lives_by_its_cookie_and_changes_things_by_its_token(page: tuple[httpx.Client, str]) -> None:
    browser, token = page
    assert browser.get("/api/v1/session").json() == {
        "needs_key": False,
        "scope": "operate",
        "via": "session",
        "key": "operate key",
        "csrf_token": token,
    }
    assert browser.get("/api/v1/runs").status_code == 200
    order = {"workflow": "pair"}
    assert browser.post("/api/v1/runs", json=order).status_code == 403
    assert browser.post("/api/v1/runs", json=order, headers={"X-CSRF-Token": "0" * 64}).status_code == 403
    assert browser.post("/api/v1/runs", json=order, headers={"X-CSRF-Token": token}).status_code == 202
    foreign = {"X-CSRF-Token": token, "Origin": "http://evil.example"}
    assert browser.post("/api/v1/runs", json=order, headers=foreign).status_code == 403
    assert browser.get("/api/v1/keys").status_code == 403


def test_logging_out_ends_the_session_everywhere(page: tuple[httpx.Client, str]) -> None:
    browser, token = page
    stolen = dict(browser.cookies)
    assert browser.delete("/api/v1/session").status_code == 403
    assert browser.delete("/api/v1/session", headers={"X-CSRF-Token": token}).status_code == 204
    assert not browser.cookies
    assert browser.get("/api/v1/session").json()["needs_key"] is True
    browser.cookies.update(stolen)
    assert browser.get("/api/v1/runs").status_code == 401


def test_a_session_ends_with_its_key(page: tuple[httpx.Client, str], api: Served, keys: Keys) -> None:
    browser, _ = page
    admin = _bearer(keys.by_scope[Scope.ADMIN])
    (key,) = [key for key in api.http.get("/api/v1/keys", headers=admin).json()["keys"] if key["scope"] == "operate"]
    api.http.delete(f"/api/v1/keys/{key['id']}", headers=admin)
    assert browser.get("/api/v1/runs").status_code == 401


def test_a_cookie_is_for_https_where_the_page_is(keys: Keys, api: Served) -> None:
    headers = {**_bearer(keys.by_scope[Scope.READ]), "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"}
    assert "Secure" in api.http.post("/api/v1/session", headers=headers).headers["Set-Cookie"]


def test_a_page_on_an_open_loopback_needs_no_key(api: Served) -> None:
    assert api.http.get("/api/v1/session").json() == {
        "needs_key": False,
        "scope": "admin",
        "via": "loopback",
        "key": None,
        "csrf_token": None,
    }
    assert api.http.get("/api/v1/session", headers=_from_elsewhere()).json()["needs_key"] is True
    assert api.http.post("/api/v1/session").status_code == 401


# Limits, headers, origins


def test_a_key_that_asks_too_often_is_told_when_to_come_back(settings: dict[str, str], keys: Keys) -> None:
    with served({**settings, "CELERIAC_RATE_LIMIT": "0.5"}) as api:
        read, admin = (_bearer(keys.by_scope[scope]) for scope in (Scope.READ, Scope.ADMIN))
        answers = [api.http.get("/api/v1/runs", headers=read) for _ in range(4)]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert 1 <= int(refused.headers["Retry-After"]) <= 2
        assert refused.json()["type"] == "urn:celeriac:problem:too-many-requests"
        assert api.http.get("/api/v1/runs", headers=admin).status_code == 200


def test_who_tries_keys_is_slowed_down_and_nobody_else(keys: Keys, api: Served) -> None:
    thief = {**_bearer("cel_aaaaaaaaaa_" + "A" * 43), "X-Forwarded-For": "203.0.113.77"}
    statuses = [api.http.get("/api/v1/runs", headers=thief).status_code for _ in range(30)]
    assert statuses[:20] == [401] * 20
    assert 429 in statuses[20:]
    assert api.http.get("/api/v1/runs", headers=_bearer(keys.by_scope[Scope.READ])).status_code == 200


def test_every_answer_carries_the_headers_of_a_careful_server(api: Served) -> None:
    for path in ("/livez", "/api/v1/runs", "/nothing", "/api/v1/runs/x"):
        headers = api.http.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]


def test_a_listed_page_may_call_with_a_key_and_no_other_may(settings: dict[str, str], keys: Keys) -> None:
    with served({**settings, "CELERIAC_ALLOWED_ORIGINS": "https://lab.example"}) as api:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = api.http.options("/api/v1/runs", headers={"Origin": "https://lab.example", **asked})
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://lab.example"
        assert "Access-Control-Allow-Credentials" not in allowed.headers
        refused = api.http.options("/api/v1/runs", headers={"Origin": "https://evil.example", **asked})
        assert refused.status_code == 400
        assert "Access-Control-Allow-Origin" not in refused.headers
        key = _bearer(keys.by_scope[Scope.READ])
        answer = api.http.get("/api/v1/runs", headers={"Origin": "https://lab.example", **key})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://lab.example"


def test_where_hosts_are_listed_no_other_name_is_answered(settings: dict[str, str], keys: Keys) -> None:
    with served({**settings, "CELERIAC_ALLOWED_HOSTS": "lab.example"}) as api:
        key = _bearer(keys.by_scope[Scope.READ])
        assert api.http.get("/api/v1/runs", headers={"Host": "lab.example", **key}).status_code == 200
        assert api.http.get("/api/v1/runs", headers={"Host": "evil.example", **key}).status_code == 403


def test_a_body_that_is_too_large_is_refused_before_it_is_read(api: Served) -> None:
    url = urlsplit(api.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    connection.putrequest("POST", "/api/v1/validate")
    connection.putheader("Content-Length", "9" * 12)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
