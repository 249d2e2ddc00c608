from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from workflows.engine.secrets import SecretError, SecretStore, hide_in_logs
from workflows.settings import Config, SettingsError

VALUE = 'p"ss w/rd+\u00e9\\n!'


def _store(**env: str) -> SecretStore:
    return SecretStore(Config(env))


def test_a_secret_is_a_variable_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "FROM_FILE").write_text("file-value\n")
    (tmp_path / "..data").mkdir()
    store = _store(CELERIAC_SECRET_TOKEN="variable-value", CELERIAC_SECRETS_FOLDER=str(tmp_path))
    assert store["TOKEN"] == "variable-value"
    assert store["FROM_FILE"] == "file-value"
    assert set(store) == {"TOKEN", "FROM_FILE"}


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    store = _store(CELERIAC_SECRETS_FOLDER=str(tmp_path))
    (tmp_path / "LATE").write_text("first-value")
    assert store["LATE"] == "first-value"
    (tmp_path / "LATE").write_text("second-value")
    assert store["LATE"] == "second-value"
    assert store.redact("first-value second-value") == "*** ***"


@pytest.mark.parametrize("name", ["MISSING", "../etc/passwd", "lower", "", "A/B"])
def test_a_secret_that_is_not_there_is_named_and_never_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="is not known"):
        _store(CELERIAC_SECRETS_FOLDER=str(tmp_path))[name]


def test_values_that_could_not_be_hidden_are_refused() -> None:
    with pytest.raises(SettingsError, match="fewer than 6"):
        _store(CELERIAC_SECRET_PIN="1234")
    with pytest.raises(SettingsError, match="no name"):
        _store(CELERIAC_SECRET_lower="long-enough")


@pytest.mark.parametrize(
    "written", [VALUE, quote(VALUE, safe=""), json.dumps(VALUE), json.dumps(VALUE, ensure_ascii=False), repr(VALUE)]
)
def test_a_value_is_hidden_however_it_is_written(written: str) -> None:
    hidden = _store(CELERIAC_SECRET_TOKEN=VALUE).redact(f"<{written}>")
    assert "***" in hidden
    assert "ss w" not in hidden
    assert "ss%20w" not in hidden


def test_each_long_line_of_a_value_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END KEY-----"
    assert _store(CELERIAC_SECRET_PEM=key).redact("got MIIEvQIBADANBgkqhkiG9w0B?") == "got ***?"


def test_passwords_of_settings_and_in_urls_are_hidden() -> None:
    store = _store(DATABASE_URL="postgresql://celeriac:tr0ub4dor@db/x", REDIS_PASSWORD="redis-word")
    assert store.redact("tr0ub4dor redis-word") == "*** ***"
    assert store.redact("GET https://ann:other@host/path failed") == "GET https://ann:***@host/path failed"


def test_a_password_that_is_the_users_name_hides_no_other_text() -> None:
    store = _store(DATABASE_URL="postgresql://postgres:postgres@db/x")
    assert store.redact("a postgres of ours") == "a postgres of ours"
    assert store.redact("postgresql://postgres:postgres@db/x") == "postgresql://postgres:***@db/x"


def test_data_keeps_its_urls() -> None:
    assert _store().redact_values('"http://ann:word@host/"') == '"http://ann:word@host/"'


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    before, stream = logging.getLogRecordFactory(), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("tests.secrets")
    logger.addHandler(handler)
    # Celery's worker in a test sets the level of the root logger for the whole process.
    logger.setLevel(logging.INFO)
    yield logger, stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(before)


def test_no_log_of_the_process_carries_a_secret(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    store = _store(CELERIAC_SECRET_TOKEN="canary-value")
    hide_in_logs(store.redact)
    hide_in_logs(store.redact)
    logger.warning("sent %s to %s", "canary-value", "there")
    try:
        int("canary-value")
    except ValueError:
        logger.exception("failed")
    logger.warning("plain %s", "text")
    written = stream.getvalue()
    assert "canary-value" not in written
    assert "sent *** to there" in written
    assert "ValueError: invalid literal for int() with base 10: '***'" in written
    assert "plain text" in written
