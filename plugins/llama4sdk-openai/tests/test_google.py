"""Google's access tokens: fetched when needed, replaced when they are refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from llama4sdk import Client, Endpoint
from llama4sdk.errors import AuthenticationError
from llama4sdk.testing import LAPTOP

from .fake_server import KEY, MODEL, Fake

pytest.importorskip("google.auth")
rsa: Any = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
serialization: Any = pytest.importorskip("cryptography.hazmat.primitives.serialization")


class Tokens(HTTPServer):
    """A token server that gives each of these tokens once, then refuses."""

    def __init__(self, *tokens: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokens = list(tokens)


class _Handler(BaseHTTPRequestHandler):
    server: Tokens

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        token = self.server.tokens.pop(0) if self.server.tokens else None
        answer_body = {"access_token": token, "expires_in": 3600} if token else {"error": "invalid_grant"}
        data = json.dumps(answer_body).encode()
        self.send_response(200 if token else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tokens]:
    """A service account whose token server is on this machine."""
    server = Tokens("stale-token", KEY)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "me@mine.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "token_uri": f"http://127.0.0.1:{server.server_port}/token",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def client(fake: Fake) -> Client:
    endpoint = Endpoint(url=fake.url, options={"project": "mine"})
    return Client(MODEL, backend="vertex", endpoint=endpoint, hardware=LAPTOP)


def test_a_token_that_is_refused_is_replaced_once(fake: Fake, tokens: Tokens) -> None:
    """A stale token is replaced, and the request is sent again to the project's address."""
    with client(fake) as llama:
        answer = llama.chat("One two")
        assert llama.chat("three").text == "three"
    assert (answer.text, len(answer.attempts), tokens.tokens) == ("One two", 2, [])
    assert fake.calls[0][0] == "/v1/projects/mine/locations/us-east5/endpoints/openapi/chat/completions"


def test_credentials_that_give_no_token(fake: Fake, tokens: Tokens) -> None:
    """Google's refusal is an AuthenticationError that names the command to run."""
    tokens.tokens.clear()
    with client(fake) as llama, pytest.raises(AuthenticationError) as caught:
        llama.chat("Hi")
    assert "gcloud auth" in (caught.value.hint or "")
