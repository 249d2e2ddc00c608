from __future__ import annotations

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from api.access import PUBLIC, Scope, needed_scope, needs, require_declared
from api.application import ROUTERS
from workflows.db.api_keys import SCOPES


def test_scopes_are_a_ladder() -> None:
    ladder = list(Scope)
    for rank, scope in enumerate(ladder):
        assert [scope.covers(other) for other in ladder] == [other <= rank for other in range(len(ladder))]


def test_an_endpoint_that_does_not_say_who_may_call_it_is_not_served() -> None:
    router = APIRouter(prefix="/forgotten")
    router.add_api_route("/x", lambda: None)
    with pytest.raises(RuntimeError, match="/forgotten/x"):
        require_declared(router.routes)


def test_the_highest_scope_of_router_and_endpoint_counts() -> None:
    router = APIRouter(dependencies=[needs(Scope.READ)])
    router.add_api_route("/more", lambda: None, dependencies=[needs(Scope.OPERATE)])
    router.add_api_route("/same", lambda: None)
    router.add_api_route("/open", lambda: None, dependencies=[PUBLIC])
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    assert [needed_scope(route) for route in routes] == [Scope.OPERATE, Scope.READ, Scope.READ]


def test_every_endpoint_of_the_api_says_who_may_call_it() -> None:
    require_declared(route for router in ROUTERS for route in router.routes)


def test_the_database_knows_the_same_scopes() -> None:
    assert tuple(Scope) == SCOPES
