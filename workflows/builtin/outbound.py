"""HTTP requests of steps: to allowed addresses only, within limits.

A name is resolved once, every address it leads to is checked, and the connection goes to the address that was checked:
a name whose answer changes in between gains nothing. TLS and the Host header keep the name. Each redirect is a new
request with the same checks, and credentials do not follow it elsewhere. Proxies of the environment are not used.
"""

from __future__ import annotations

import json
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpcore
import httpx

from workflows.builtin.networks import BlockedAddressError, NetworkRules
from workflows.model.errors import AuthenticationError, PermanentError, TransientError

USER_AGENT = "celeriac"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRANSIENT_STATUSES = frozenset({408, 425, 429, *range(500, 600)})

Resolve = Callable[[str, int], Iterable[str]]

_CHUNK = 65_536
_KEPT_ON_REDIRECT = frozenset(
    {"accept", "accept-encoding", "accept-language", "connection", "content-length", "content-type", "host"}
    | {"transfer-encoding", "user-agent"}
)
"""Headers that follow a redirect to another origin. Whatever else was given may be a credential."""

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class TooLargeAnswerError(PermanentError):
    """An answer has more bytes than were allowed, as sent or unpacked."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost, its redirects included.

    Attributes:
        total_bytes: Of the body, unpacked; as it is sent it may have no more either.
        total_seconds: From the first connection to the last byte.
        step_seconds: For each connection, and each wait for the next bytes.
    """

    total_bytes: int = 10_000_000
    total_seconds: float = 60.0
    step_seconds: float = 20.0
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end.

    Attributes:
        url: Where it came from after all redirects, without user and password.
        headers: By name in lower case.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes

    def text(self) -> str:
        """The body as text, by the charset of its Content-Type; what is wrong in it becomes a replacement character."""
        charset = httpx.Headers(dict(self.headers)).get("content-type", "").partition("charset=")[2].strip("\"' ;")
        try:
            return self.body.decode(charset or "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            PermanentError: it is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise PermanentError(f"{self.url} did not answer JSON: {self.text()[:200]!r}") from None

    def retry_after_seconds(self, now: float) -> float | None:
        """What `Retry-After` says; None without it. `now` is in seconds since 1970."""
        return retry_after_seconds(self.headers, now)

    def check(self) -> Answer:
        """This answer, unless it is an error.

        Raises:
            TransientError: 408, 425, 429 or 5xx: the same request may succeed later.
            AuthenticationError: 401 or 403.
            PermanentError: another status that is no success.
        """
        if 200 <= self.status < 300:
            return self
        text = f"{self.url} answered {self.status}: {' '.join(self.text()[:500].split())[:200]}"
        if self.status in TRANSIENT_STATUSES:
            raise TransientError(text)
        raise AuthenticationError(text) if self.status in (401, 403) else PermanentError(text)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose body is read piece by piece.

    Attributes:
        url: Where it comes from after all redirects, without user and password.
        headers: By name in lower case.
        chunks: The body, unpacked; reading it raises as `Outbound.request` does.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    chunks: Iterator[bytes]

    def read(self) -> Answer:
        """The whole answer."""
        return Answer(self.status, self.url, self.headers, b"".join(self.chunks))


class Outbound:
    """A client that steps may share; use it as a context manager. Connections are kept for further requests.

    Args:
        rules: What may be reached beside the public internet.
        resolve: Addresses of a host and port; the system's own resolver by default.
    """

    def __init__(self, rules: NetworkRules, *, user_agent: str = USER_AGENT, resolve: Resolve | None = None) -> None:
        self._client = httpx.Client(
            transport=_Transport(_GuardedBackend(rules, resolve or _system_resolver)),
            headers={"User-Agent": user_agent, "Accept-Encoding": "gzip, deflate"},
            follow_redirects=False,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limits: Limits = Limits(),
    ) -> Answer:
        """Send a request, and read its answer; any status is an answer.

        Raises: as `stream` does.
        """
        with self.stream(method, url, headers=headers, params=params, body=body, limits=limits) as found:
            return found.read()

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limits: Limits = Limits(),
    ) -> Iterator[Stream]:
        """Send a request, and read its answer piece by piece within the block; any status is an answer.

        Raises:
            BlockedAddressError: it would go where steps may not reach.
            TooLargeAnswerError: the answer is too large.
            TransientError: no answer within its time, or the connection broke.
            PermanentError: the URL, or what was answered, cannot be used.
        """
        try:
            request = self._client.build_request(method, url, headers=headers, params=params, content=body)
        except (httpx.InvalidURL, UnicodeError, ValueError, TypeError) as error:
            raise PermanentError(f"no request can be made of this URL: {error}") from None
        request.extensions = {"timeout": httpx.Timeout(limits.step_seconds).as_dict()}
        with _until(time.monotonic() + limits.total_seconds):
            for _ in range(limits.redirects + 1):
                _check_scheme(request.url)
                with self._answered(request) as response:
                    if response.status_code not in REDIRECTS or "location" not in response.headers:
                        yield Stream(
                            response.status_code,
                            public_url(request.url),
                            {name.lower(): value for name, value in response.headers.items()},
                            _read(response, limits),
                        )
                        return
                    request = _redirected(request, response)
        raise PermanentError(f"{public_url(request.url)} redirects more than {limits.redirects} times")

    @contextmanager
    def _answered(self, request: httpx.Request) -> Iterator[httpx.Response]:
        place = public_url(request.url)
        try:
            response = self._client.send(request, stream=True)
            try:
                yield response
            finally:
                response.close()
        except httpx.UnsupportedProtocol as error:
            raise PermanentError(f"{place}: {error}") from None
        except httpx.TimeoutException:
            raise TransientError(f"{place} did not answer in time") from None
        except httpx.RemoteProtocolError as error:
            raise TransientError(f"{place} broke off: {error}") from None
        except httpx.HTTPError as error:
            raise TransientError(f"{place} cannot be reached: {error}") from None


def public_url(url: httpx.URL | str) -> str:
    """A URL as it may be shown: without user, password, query and fragment."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "an invalid URL"
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))[:300]


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """What `Retry-After` says; None without it. `now` is in seconds since 1970."""
    given = headers.get("retry-after", "").strip()
    if given.isdecimal():
        return float(given[:9])
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - now)
    except ValueError:
        return None


class _GuardedBackend(httpcore.NetworkBackend):
    """Resolves, checks, and connects to what was checked."""

    def __init__(self, rules: NetworkRules, resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers; all of them must be allowed."""
        addresses = list(dict.fromkeys(self._resolve(host, port)))
        for address in addresses:
            self._rules.check(host, address)
        failure: Exception = httpcore.ConnectError(f"no address is known of '{host}'")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(address, port, _within(timeout), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return _TimedStream(stream)
        raise failure

    def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore.NetworkStream:
        """No URL leads to one."""
        raise BlockedAddressError(f"{path} is no address of a network")


class _TimedStream(httpcore.NetworkStream):
    """A stream on which no wait goes beyond the deadline of the request that uses it."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, _within(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Transport(httpx.HTTPTransport):
    """httpx's own transport over our way to connect, which it has no argument for."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=20,
            max_keepalive_connections=5,
            keepalive_expiry=10.0,
            network_backend=backend,
        )


@contextmanager
def _until(deadline: float) -> Iterator[None]:
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def _within(timeout: float | None) -> float:
    """Seconds that a wait may take."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time for this request is over")
    return left if timeout is None else min(timeout, left)


def _system_resolver(host: str, port: int) -> Iterable[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the name '{host}' cannot be resolved: {error}") from error
    return [str(entry[4][0]) for entry in found]


def _check_scheme(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise PermanentError(f"{public_url(url)!r} is no address of the web: only http:// and https:// are")


def _redirected(request: httpx.Request, response: httpx.Response) -> httpx.Request:
    """The next request: as browsers make it, without credentials when it goes to another origin."""
    try:
        following = response.next_request
    except (httpx.RemoteProtocolError, httpx.InvalidURL) as error:
        raise PermanentError(f"{public_url(request.url)} redirects to no URL: {error}") from None
    if following is None:
        raise PermanentError(f"{public_url(request.url)} redirects to nowhere")
    if request.url.scheme == "https" and following.url.scheme == "http":
        raise PermanentError(f"{public_url(request.url)} redirects from https to http")
    before, after = request.url, following.url
    if (before.scheme, before.host, before.port) != (after.scheme, after.host, after.port):
        for name in list(following.headers):
            if name.lower() not in _KEPT_ON_REDIRECT:
                del following.headers[name]
        following.url = after.copy_with(userinfo=b"")
    following.extensions = request.extensions
    return following


def _read(response: httpx.Response, limits: Limits) -> Iterator[bytes]:
    """The body, unpacked, in pieces of bounded size, never more than is allowed."""
    unpack = _unpacker(response.headers.get("content-encoding", ""))
    unpacked, received = 0, 0
    for chunk in response.iter_raw():
        received += len(chunk)
        if received > limits.total_bytes:
            raise _too_large(response, limits)
        for piece in unpack(chunk):
            unpacked += len(piece)
            if unpacked > limits.total_bytes:
                raise _too_large(response, limits)
            yield piece


def _too_large(response: httpx.Response, limits: Limits) -> TooLargeAnswerError:
    return TooLargeAnswerError(f"{public_url(response.url)} answers more than {limits.total_bytes} bytes")


def _unpacker(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    """Turns what arrives into pieces of content of bounded size."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda chunk: iter((chunk,))
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise PermanentError(f"an answer is packed by {encoding[:50]!r}, which was not asked for")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def unpack(chunk: bytes) -> Iterator[bytes]:
        rest = chunk
        while rest and not unpacker.eof:
            try:
                yield unpacker.decompress(rest, _CHUNK)
            except zlib.error as error:
                raise PermanentError(f"an answer cannot be unpacked: {error}") from None
            rest = unpacker.unconsumed_tail

    return unpack
