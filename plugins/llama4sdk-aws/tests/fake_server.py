"""The HTTP server of the fakes: it gives scripted answers first, then those of its class."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

from .wire_format import ACCESS_KEY, SECRET_KEY, RefusedError, check_signature

STREAM = "application/vnd.amazon.eventstream"


class RecordedRequest(NamedTuple):
    """A request that the server got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def operation(self) -> str:
        return self.path.rpartition("/")[2]


class Handler(BaseHTTPRequestHandler):
    """One connection; ``server.fake`` makes the answers."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        fake = self.server.fake
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = RecordedRequest(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        fake.requests.append(request)
        try:
            if fake.script and (answer := fake.script.popleft()) is not None:
                answer(self, request)
                return
            fake.check(request)
            fake.answer(self, request)
        except RefusedError as refusal:
            self.send_refusal(refusal.status, refusal.code, refusal.message)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_PUT(self) -> None:
        self._credentials()

    def do_GET(self) -> None:
        self._credentials()

    def _credentials(self) -> None:
        """Give credentials as a container or EC2 does."""
        fake = self.server.fake
        fake.credential_calls.append(f"{self.command} {self.path}")
        fake.gate.wait(5)
        if self.path.endswith(("/token", "/security-credentials/")):
            self.reply(b"a-role", headers={"x-aws-ec2-metadata-token-ttl-seconds": "21600"})
            return
        fake.tokens[ACCESS_KEY] = f"token-{len(fake.credential_calls)}"
        expires = datetime.now(UTC) + fake.lifetime
        keys = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": fake.tokens[ACCESS_KEY]}
        answer = {**keys, "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"), "Code": "Success"}
        self.reply(json.dumps(answer).encode())

    def send_refusal(self, status: int, code: str, message: str, **headers: str) -> None:
        self.reply(
            json.dumps({"message": message}).encode(), status, {"x-amzn-ErrorType": f"{code}:http://x/", **headers}
        )

    def reply(self, body: bytes, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, pieces: Iterable[bytes], *, end: bool = True, headers: Mapping[str, str] = {}) -> None:
        """Send each piece as a chunk; without ``end`` the connection breaks after them."""
        self.send_response(200)
        for name, value in {"Content-Type": STREAM, "Transfer-Encoding": "chunked", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if end:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self.server.fake.now(), usegmt=True)

    def log_message(self, *args: object) -> None:
        pass


Answer: TypeAlias = Callable[[Handler, RecordedRequest], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, fake: FakeServer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fake = fake

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class FakeServer:
    """The base of the fakes: keys, a clock, a script. ``None`` in the script stands for an ordinary answer."""

    service: ClassVar[str]

    def __init__(self) -> None:
        self.keys = {ACCESS_KEY: SECRET_KEY}
        #: Session tokens of the keys that have one.
        self.tokens: dict[str, str] = {}
        self.bearers: set[str] = set()
        self.clock = timedelta()
        self.requests: list[RecordedRequest] = []
        #: Methods and paths of requests for credentials.
        self.credential_calls: list[str] = []
        self.lifetime = timedelta(hours=6)
        #: Requests for credentials wait until it is set.
        self.gate = threading.Event()
        self.gate.set()
        self.script: deque[Answer | None] = deque()
        self._server = _Server(self)
        self.scheme = "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._server.server_port}"

    def encrypt(self, certificate: Path, key: Path) -> None:
        """Use TLS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme = "https"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.clock

    def check(self, request: RecordedRequest) -> None:
        """Check the credentials. Raises RefusedError."""
        authorization = request.headers.get("authorization", "")
        if authorization.startswith("Bearer "):
            if authorization.removeprefix("Bearer ") not in self.bearers:
                raise RefusedError(403, "AccessDeniedException", "Authentication failed: the API key is not valid.")
            return
        url = f"http://{request.headers['host']}{request.path}"
        check_signature(
            "POST", url, request.headers, request.body, secrets=self.keys, now=self.now(), service=self.service
        )
        key = authorization.partition("Credential=")[2].partition("/")[0]
        if self.tokens.get(key) != request.headers.get("x-amz-security-token"):
            raise RefusedError(403, "ExpiredTokenException", "The security token included in the request is expired")

    def answer(self, handler: Handler, request: RecordedRequest) -> None:
        raise NotImplementedError
