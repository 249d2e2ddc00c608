"""Sessions of PostgreSQL: how long they wait for others, how they plan, and that either side sees the other vanish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    # A host that vanished without a word is noticed within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Of the client's side of every connection, for libpq."""

NOTICE = {
    # The same for the server. Its idle time does not tell it: amid a pipeline, as `executemany` makes one, it waits for
    # the rest with all row locks, until its system gives the connection up; by default that is after two hours.
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",  # where the system knows it, it decides instead of the count
}
"""Of the server's side of every connection."""

SETTINGS = {
    # Whoever holds a row's lock that long is frozen; whoever waits for it tries again as a whole.
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "10s",
    # A prepared statement keeps its plan. One that was made while a table was small is a scan of the table, and stays
    # that until the server gathers statistics again: a map of 100,000 calls ends sooner. Every statement here has its
    # index; the cost that stands for "never scan" must not look like a statement that is worth compiling.
    "enable_seqscan": "off",
    "jit": "off",
}
"""Of the sessions that `Statement`s run on. Their transactions are short."""


def open_session(url: str) -> psycopg.Connection[Any]:
    """A connection for `Statement`s, which are prepared at their first use."""
    connection = psycopg.connect(url, autocommit=True, prepare_threshold=0, **OPTIONS)
    configure(connection, {**SETTINGS, **NOTICE})
    return connection


def configure(connection: psycopg.Connection[Any], settings: Mapping[str, str]) -> None:
    """Settings for the session's life, in one round trip."""
    was_autocommit = connection.autocommit
    connection.autocommit = True  # or the first roll-back would undo them
    connection.execute(
        "; ".join(f"SET {name} = '{value}'" for name, value in settings.items()),
        prepare=False,  # or several statements in one message are refused
    )
    connection.autocommit = was_autocommit
