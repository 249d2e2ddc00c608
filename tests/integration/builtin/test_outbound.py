"""Requests of steps against servers that mean no good, on loopback: 127.0.0.1 is allowed here, nothing else."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from tests.support.loopback import answering
from workflows.builtin.networks import BlockedAddressError, NetworkRules
from workflows.builtin.outbound import Limits, Outbound, TooLargeAnswerError, public_url
from workflows.model.errors import AuthenticationError, PermanentError, TransientError
from workflows.settings import Config

RULES = NetworkRules.of(Config({"CELERIAC_ALLOW_PRIVATE_NETWORKS": "127.0.0.1"}))
Answering = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def _serving(answer: Answering) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except OSError:
                self.close_connection = True

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

    with answering(Handler) as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture
def outbound() -> Iterator[Outbound]:
    with Outbound(RULES, resolve=lambda host, _: [host if host[0].isdigit() or ":" in host else "127.0.0.1"]) as made:
        yield made


def _send(to: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    to.send_response(status)
    for name, value in headers.items():
        to.send_header(name.replace("_", "-"), value)
    to.send_header("Content-Length", str(len(body)))
    to.end_headers()
    to.wfile.write(body)


def _echo(to: BaseHTTPRequestHandler) -> None:
    length = int(to.headers.get("Content-Length", 0))
    seen = {"path": to.path, "body": to.rfile.read(length).decode(), "headers": dict(to.headers), "method": to.command}
    _send(to, json.dumps(seen).encode(), Content_Type="application/json")


def test_a_request_goes_to_the_checked_address_under_its_own_name(outbound: Outbound) -> None:
    with _serving(_echo) as port:
        answer = outbound.request("POST", f"http://api.example:{port}/a?b=c", headers={"X-One": "1"}, body=b"hello")
    seen = answer.check().json()
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/a?b=c", "hello")
    assert seen["headers"]["Host"] == f"api.example:{port}"
    assert seen["headers"]["X-One"] == "1"
    assert answer.url == f"http://api.example:{port}/a"


def test_tls_asks_for_the_name_and_not_for_the_address(outbound: Outbound) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hello: list[bytes] = []

        def take() -> None:
            connection, _ = listener.accept()
            hello.append(connection.recv(4096))
            connection.close()

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        with pytest.raises(TransientError):
            outbound.request("GET", f"https://api.example:{listener.getsockname()[1]}/")
        thread.join(5)
    assert b"api.example" in hello[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://0.0.0.0/",
    ],
)
def test_addresses_that_are_not_public_are_refused(url: str) -> None:
    with Outbound(RULES) as outbound, pytest.raises(BlockedAddressError):
        outbound.request("GET", url)


@pytest.mark.parametrize("url", ["http://2130706434/", "http://0x7f000002/", "http://0177.0.0.2/", "http://127.2/"])
def test_addresses_in_disguise_are_refused(url: str) -> None:
    # The system's resolver takes these spellings; what it makes of them is what is checked.
    with Outbound(RULES) as outbound, pytest.raises((BlockedAddressError, TransientError, PermanentError)):
        outbound.request("GET", url, limits=Limits(total_seconds=3.0))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/", "gopher://x/", "//x/", "x", "http://"])
def test_only_the_web_is_spoken_to(outbound: Outbound, url: str) -> None:
    with pytest.raises(PermanentError):
        outbound.request("GET", url)


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:1/", "http://169.254.169.254/", "file:///etc/passwd", "http://[::1]/"]
)
def test_a_redirect_is_checked_like_any_request(outbound: Outbound, target: str) -> None:
    with _serving(lambda to: _send(to, b"", 302, Location=target)) as port, pytest.raises(PermanentError):
        outbound.request("GET", f"http://127.0.0.1:{port}/")


def test_redirects_are_followed_and_their_number_is_limited(outbound: Outbound) -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        left = int(to.path.strip("/"))
        _send(to, b"there", 200) if left == 0 else _send(to, b"", 307, Location=f"/{left - 1}")

    with _serving(answer) as port:
        assert outbound.request("GET", f"http://127.0.0.1:{port}/5").body == b"there"
        with pytest.raises(PermanentError, match="more than 5 times"):
            outbound.request("GET", f"http://127.0.0.1:{port}/6")


def test_credentials_do_not_follow_a_redirect_to_another_origin(outbound: Outbound) -> None:
    with (
        _serving(_echo) as second,
        _serving(lambda to: _send(to, b"", 307, Location=f"http://other.example:{second}/")) as first,
    ):
        headers = {"Authorization": "Bearer x", "X-API-Key": "y", "Cookie": "z=1", "Accept": "text/html"}
        url = f"http://user:word@first.example:{first}/"
        seen = outbound.request("GET", url, headers=headers).json()["headers"]
    assert {name.lower() for name in seen}.isdisjoint({"authorization", "x-api-key", "cookie"})
    assert seen["Accept"] == "text/html"


def test_a_name_that_leads_elsewhere_the_second_time_gains_nothing() -> None:
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with (
        _serving(lambda to: _send(to, b"", 302, Location="/again")) as port,
        Outbound(RULES, resolve=rebinding) as outbound,
        pytest.raises(BlockedAddressError, match=r"127\.0\.0\.2"),
    ):
        # An HTTP/1.0 server closes after each answer: the redirect connects anew, and is checked anew.
        outbound.request("GET", f"http://rebind.example:{port}/")
    assert asked == ["rebind.example", "rebind.example"]


def test_one_bad_address_among_good_ones_is_enough_to_refuse() -> None:
    with Outbound(RULES, resolve=lambda *_: ["127.0.0.1", "10.0.0.1"]) as outbound, pytest.raises(BlockedAddressError):
        outbound.request("GET", "http://mixed.example/")


def test_proxies_of_the_environment_are_not_used(outbound: Outbound, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.2:1/")
    with _serving(_echo) as port, Outbound(RULES) as fresh:
        assert fresh.request("GET", f"http://127.0.0.1:{port}/").status == 200


def test_an_answer_that_never_ends_is_cut_off(outbound: Outbound) -> None:
    def endless(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        while True:
            to.wfile.write(b"x" * 65_536)

    with _serving(endless) as port, pytest.raises(TooLargeAnswerError):
        outbound.request("GET", f"http://127.0.0.1:{port}/", limits=Limits(total_bytes=1_000_000))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_not_unpacked(outbound: Outbound, encoding: str) -> None:
    bomb = (gzip.compress if encoding == "gzip" else zlib.compress)(bytes(100_000_000))
    with _serving(lambda to: _send(to, bomb, Content_Encoding=encoding)) as port:
        began = time.process_time()
        with pytest.raises(TooLargeAnswerError):
            outbound.request("GET", f"http://127.0.0.1:{port}/", limits=Limits(total_bytes=1_000_000))
        assert time.process_time() - began < 2.0


def test_packed_answers_are_unpacked(outbound: Outbound) -> None:
    text = b"hello " * 50_000
    with _serving(lambda to: _send(to, gzip.compress(text), Content_Encoding="gzip")) as port:
        assert outbound.request("GET", f"http://127.0.0.1:{port}/").body == text


@pytest.mark.parametrize(("encoding", "told"), [("gzip", "cannot be unpacked"), ("br", "not asked for")])
def test_what_cannot_be_unpacked_is_told(outbound: Outbound, encoding: str, told: str) -> None:
    with (
        _serving(lambda to: _send(to, b"neither", Content_Encoding=encoding)) as port,
        pytest.raises(PermanentError, match=told),
    ):
        outbound.request("GET", f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_drips_is_cut_off_by_the_time_of_the_whole(outbound: Outbound, part: str) -> None:
    stop = threading.Event()

    def drip(to: BaseHTTPRequestHandler) -> None:
        if part == "body":
            to.send_response(200)
            to.end_headers()
        else:
            to.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        while not stop.wait(0.1):
            to.wfile.write(b"x")

    with _serving(drip) as port:
        began = time.monotonic()
        with pytest.raises(TransientError, match="in time"):
            outbound.request("GET", f"http://127.0.0.1:{port}/", limits=Limits(total_seconds=1.0, step_seconds=0.8))
        assert time.monotonic() - began < 10.0
        stop.set()


def test_a_server_that_is_not_there_may_be_there_later(outbound: Outbound) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransientError, match="cannot be reached"):
        outbound.request("GET", f"http://127.0.0.1:{port}/")


def test_a_name_that_nobody_knows_is_told(outbound: Outbound) -> None:
    with Outbound(RULES, resolve=lambda *_: []) as lost, pytest.raises(TransientError, match="no address"):
        lost.request("GET", "http://nowhere.example/")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, PermanentError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (429, TransientError),
        (503, TransientError),
    ],
)
def test_answers_that_are_errors_say_whether_to_try_again(
    outbound: Outbound, status: int, kind: type[Exception]
) -> None:
    with _serving(lambda to: _send(to, b"no", status, Retry_After="7")) as port:
        answer = outbound.request("GET", f"http://127.0.0.1:{port}/")
    assert answer.status == status
    assert answer.retry_after_seconds(0.0) == 7.0
    with pytest.raises(kind, match=str(status)):
        answer.check()


def test_no_error_carries_a_password_or_a_query(outbound: Outbound) -> None:
    with pytest.raises(PermanentError) as caught:
        outbound.request("GET", "ftp://ann:hunter22@example.org/path?token=abc#x")
    assert "hunter22" not in str(caught.value)
    assert "abc" not in str(caught.value)
    assert public_url("https://ann:hunter22@example.org/p?q=1") == "https://example.org/p"
