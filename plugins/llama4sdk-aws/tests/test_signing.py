"""Signatures, and the credentials that make them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from llama4sdk_aws.authorizers import AwsKeys, BearerAuthorizer
from llama4sdk_aws.signing import Signer
from pydantic import JsonValue

from llama4sdk.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    NoBackendError,
    PermissionDeniedError,
)
from llama4sdk.remote.dialect import Call, Head
from llama4sdk.results import Completion

from .clients import make_async_client, make_client
from .fake_bedrock import SCOUT, FakeBedrock
from .test_boto3 import HI
from .wire_format import ACCESS_KEY, SECRET_KEY

HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"
BODY = b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}'
#: 2026-01-02, 03:04:05 UTC.
MOMENT = 1767323045.0


@pytest.mark.parametrize(
    ("path", "token", "signature"),
    [
        (
            "/model/us.meta.llama4-scout-17b-instruct-v1%3A0/converse",
            None,
            "e2ccda0a7a89fd70e9fcdcdd105c794c27837e74d7affb30ef42dda1631df75d",
        ),
        (
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.meta.llama4-scout-17b-"
            "instruct-v1%3A0/converse-stream",
            "SESSIONTOKEN",
            "5323a1fb900910ad97620ebdf899d17f3e4dc78840a8653006cf489701e79c01",
        ),
    ],
    ids=["profile", "arn"],
)
def test_golden_signatures(path: str, token: str | None, signature: str) -> None:
    """Signatures equal those of botocore and of AWS' C library for the same requests."""
    keys = AwsKeys("AKIDEXAMPLE", SECRET_KEY, token)
    signer = Signer("bedrock", "bedrock", "us-east-1", keys=keys, now=lambda: MOMENT)
    signed = signer.authorize(Call("POST", HOST + path, {"Content-Type": "application/json"}, BODY))
    names = "content-type;host;x-amz-date" + (";x-amz-security-token" if token else "")
    assert signed.headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/bedrock/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    again = signer.authorize(signed)
    assert again.headers == signed.headers


@pytest.mark.usefixtures("keys")
def test_a_wrong_key_is_an_authentication_error(bedrock: FakeBedrock) -> None:
    """A wrong secret fails at once, and the error does not repeat what was signed."""
    bedrock.tokens[ACCESS_KEY] = "a-session-token"
    with (
        make_client(bedrock, api_key=f"{ACCESS_KEY}:not-the-secret:a-session-token") as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        client.chat("hi")
    assert len(bedrock.requests) == 1
    for secret in ("not-the-secret", "a-session-token"):
        assert secret not in f"{caught.value!s} {caught.value!r}"


@pytest.mark.usefixtures("keys")
def test_an_unknown_key_is_an_authentication_error(bedrock: FakeBedrock) -> None:
    """An unknown access key fails too."""
    with make_client(bedrock, api_key="AKIDNOBODYKNOWSTHIS1:x") as client, pytest.raises(AuthenticationError):
        client.chat("hi")


def test_keys_in_code_take_precedence_over_the_environment(
    bedrock: FakeBedrock, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's API key takes precedence over keys there, and keys in code over both."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "ABSKexample")
    bedrock.bearers.add("ABSKexample")
    with make_client(bedrock) as client:
        assert client.chat("hi").text == "hi"
    with make_client(bedrock, api_key=f"{ACCESS_KEY}:{SECRET_KEY}") as client:
        assert client.chat("hi").text == "hi"
    first, second = (request.headers for request in bedrock.requests)
    assert first["authorization"] == "Bearer ABSKexample"
    assert "x-amz-date" not in first
    assert second["authorization"].startswith("AWS4-HMAC-SHA256 ")


@pytest.mark.usefixtures("keys")
def test_a_wrong_api_key_is_an_authentication_error(bedrock: FakeBedrock) -> None:
    """An unknown API key is refused, and not repeated."""
    with make_client(bedrock, api_key="ABSKwrong") as client, pytest.raises(AuthenticationError) as caught:
        client.chat("hi")
    assert "ABSKwrong" not in str(caught.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
def test_api_keys_go_over_tls(bedrock: FakeBedrock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK sends the same header as boto3, which takes API keys over TLS alone."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=fake", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    bedrock.encrypt(certificate, key)
    bedrock.bearers.add("ABSKexample")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "ABSKexample")
    with make_client(bedrock, certificates=str(certificate)) as client:
        assert client.chat("hi").text == "hi"
    aws_client = boto3.Session().client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=bedrock.url, verify=str(certificate)
    )
    assert aws_client.converse(modelId=SCOUT, messages=HI)["stopReason"] == "end_turn"
    aws_client.close()
    sdk_header, boto3_header = (request.headers["authorization"] for request in bedrock.requests)
    assert sdk_header == boto3_header == "Bearer ABSKexample"


def test_api_keys_are_not_sent_in_the_clear(bedrock: FakeBedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API key is sent to other machines over https only."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for host in ("example.com", "127.0.0.1.example.com", "10.0.0.1"):
        with (
            make_client(bedrock, api_key="ABSKexample", url=f"http://{host}:1") as client,
            pytest.raises(NoBackendError, match="without encryption"),
        ):
            client.chat("hi")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_expired_credentials_are_replaced_once(
    bedrock: FakeBedrock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """When the session has expired, credentials are loaded again, and the request is sent once more."""
    counter, program = tmp_path / "asked", tmp_path / "keys.py"
    program.write_text(
        "import json, pathlib\n"
        f"path = pathlib.Path({str(counter)!r})\n"
        "count = len(path.read_text()) if path.exists() else 0\n"
        "path.write_text('x' * (count + 1))\n"
        f"print(json.dumps(dict(Version=1, AccessKeyId={ACCESS_KEY!r}, SecretAccessKey={SECRET_KEY!r}, "
        "SessionToken=f'token-{count}', Expiration='2099-01-01T00:00:00Z')))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile robot]\nregion = us-west-2\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "robot")
    bedrock.tokens[ACCESS_KEY] = "token-1"
    if kind == "sync":
        with make_client(bedrock) as client:
            answers = [client.chat("hi") for _ in range(2)]
    else:
        answers = asyncio.run(_twice(bedrock))
    assert [answer.text for answer in answers] == ["hi", "hi"]
    assert [len(answer.attempts) for answer in answers] == [2, 1]
    assert "ExpiredToken" in (answers[0].attempts[0].error or "")
    assert counter.read_text() == "xx"
    assert "/us-west-2/bedrock/" in bedrock.requests[-1].headers["authorization"]


async def _twice(bedrock: FakeBedrock) -> list[Completion[JsonValue]]:
    async with make_async_client(bedrock) as client:
        return [await client.chat("hi") for _ in range(2)]


@pytest.fixture(params=["container", "ec2"])
def source(request: pytest.FixtureRequest, bedrock: FakeBedrock, monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials from a server, which the fake plays too."""
    kind: str = request.param
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    if kind == "container":
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{bedrock.url}/credentials")
    else:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", bedrock.url)
    return kind


def test_roles_of_containers_and_machines_are_found(bedrock: FakeBedrock, source: str) -> None:
    """They are requested once, and signatures cover their session token."""
    with make_client(bedrock) as client:
        assert [client.chat("hi").text for _ in range(2)] == ["hi", "hi"]
    expected = ["GET /credentials"]
    if source == "ec2":
        path = "/latest/meta-data/iam/security-credentials/"
        expected = ["PUT /latest/api/token", f"GET {path}", f"GET {path}a-role"]
    assert bedrock.credential_calls == expected
    assert "x-amz-security-token" in bedrock.requests[1].headers["authorization"]


def test_credentials_near_their_end_are_renewed(bedrock: FakeBedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are renewed before they expire, and ``waits`` announces it."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{bedrock.url}/credentials")
    bedrock.lifetime = timedelta(minutes=5)
    signer = Signer("bedrock", "bedrock", "us-east-1")
    call = Call("POST", f"{HOST}/model/x/converse")
    tokens = [signer.authorize(call).headers["X-Amz-Security-Token"]]
    waits = [signer.authorize_blocks]
    bedrock.lifetime = timedelta(hours=6)
    tokens.append(signer.authorize(call).headers["X-Amz-Security-Token"])
    waits.append(signer.authorize_blocks)
    assert waits == [True, False]
    assert tokens[0] != tokens[1]
    assert tokens[1] in signer.secrets()


def test_an_event_loop_runs_while_credentials_are_loaded(bedrock: FakeBedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of credentials answers only after the loop has run: a blocked loop would never end."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{bedrock.url}/credentials")
    bedrock.gate.clear()

    async def run() -> str:
        async with make_async_client(bedrock) as client:
            answer = asyncio.create_task(client.chat("hi"))
            while not bedrock.credential_calls:
                await asyncio.sleep(0.01)
            bedrock.gate.set()
            return (await answer).text

    assert asyncio.run(run()) == "hi"
    assert len(bedrock.credential_calls) == 1


@pytest.mark.usefixtures("keys")
def test_credentials_that_stay_expired_fail(bedrock: FakeBedrock) -> None:
    """Without newer ones the error comes after two attempts."""
    bedrock.tokens[ACCESS_KEY] = "what the environment does not have"
    with make_client(bedrock) as client, pytest.raises(AuthenticationError, match="ExpiredToken") as caught:
        client.chat("hi")
    assert len(bedrock.requests) == 2
    assert len(caught.value.attempts) == 2


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wrong_clock_is_corrected(bedrock: FakeBedrock, hours: int) -> None:
    """The second attempt and all later requests are signed with AWS' time."""
    bedrock.clock = timedelta(hours=hours)
    with make_client(bedrock) as client:
        assert client.chat("hi").text == "hi"
        assert client.chat("again").text == "again"
    assert len(bedrock.requests) == 3


def test_waiting_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """``waits`` is true while credentials must be loaded."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    signer = Signer("bedrock", "bedrock", "us-east-1")
    call = Call("POST", f"{HOST}/model/x/converse")
    waits = [signer.authorize_blocks]
    signer.authorize(call)
    waits.append(signer.authorize_blocks)
    signer.forget()
    waits.append(signer.authorize_blocks)
    assert waits == [True, False, True]
    assert not BearerAuthorizer("ABSKexample").authorize_blocks
    assert not Signer("bedrock", "bedrock", "us-east-1", keys=AwsKeys("A" * 20, "b", None)).authorize_blocks


def test_requests_that_fail_together_renew_credentials_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second refusal of the old credentials does not drop the new ones."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    signer = Signer("bedrock", "bedrock", "us-east-1")
    call = Call("POST", f"{HOST}/model/x/converse")
    signer.authorize(call)
    assert signer.forget()
    signer.authorize(call)
    assert signer.forget()
    assert not signer.authorize_blocks


def test_no_credentials_is_an_authentication_error() -> None:
    """Where botocore finds none, the hint lists the sources."""
    signer = Signer("bedrock", "bedrock", "us-east-1")
    with pytest.raises(AuthenticationError, match="No AWS credentials") as caught:
        signer.authorize(Call("POST", f"{HOST}/model/x/converse"))
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("config", "variables", "kind"),
    [
        ("", {"AWS_ACCESS_KEY_ID": ACCESS_KEY}, ConfigurationError),
        ("", {"AWS_PROFILE": "nobody"}, ConfigurationError),
        (
            "[profile a]\nrole_arn = arn:aws:iam::1:role/a\nsource_profile = a\n",
            {"AWS_PROFILE": "a"},
            AuthenticationError,
        ),
        ("[profile p]\ncredential_process = false\n", {"AWS_PROFILE": "p"}, AuthenticationError),
        (
            "[profile s]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n"
            "[sso-session s]\nsso_start_url = https://x\nsso_region = us-east-1\n",
            {"AWS_PROFILE": "s"},
            AuthenticationError,
        ),
    ],
    ids=["half a key", "no such profile", "a cycle of roles", "a failing process", "not logged in"],
)
def test_broken_credentials_are_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    variables: dict[str, str],
    kind: type[Exception],
) -> None:
    """Each fault of a profile is an error of the SDK with a hint."""
    path = tmp_path / "config"
    path.write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind) as caught:
        Signer("bedrock", "bedrock", "us-east-1").authorize(Call("POST", f"{HOST}/model/x/converse"))
    assert getattr(caught.value, "hint", None)


@pytest.mark.usefixtures("keys")
def test_secrets_appear_nowhere(bedrock: FakeBedrock) -> None:
    """Plans, reprs and errors do not show them."""
    with make_client(bedrock, api_key=f"{ACCESS_KEY}:{SECRET_KEY}") as client:
        plan = client.plan()
        bedrock.script.append(
            lambda handler, request: handler.send_refusal(400, "ValidationException", f"odd {SECRET_KEY}")
        )
        with pytest.raises(APIError) as caught:
            client.chat("hi")
        engine = client._session.engine()
        texts = [plan.model_dump_json(), repr(plan), repr(engine.__dict__), str(caught.value), repr(caught.value)]
    assert not [text for text in texts if SECRET_KEY in text]


@pytest.mark.usefixtures("keys")
def test_an_undecodable_key_is_a_configuration_error(bedrock: FakeBedrock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are no UTF-8 are refused, and no cause of the error shows them."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "\udcff\udcfe-s3cret")
    with make_client(bedrock) as client, pytest.raises(ConfigurationError, match="no key has") as caught:
        client.chat("Hi")
    link: BaseException | None = caught.value
    while link is not None:
        assert "s3cret" not in repr(link)
        link = link.__cause__ or link.__context__
    assert not bedrock.requests


def test_the_clock_is_unchanged_without_a_date() -> None:
    """An answer without a valid date changes nothing."""
    signer = Signer("bedrock", "bedrock", "us-east-1", keys=AwsKeys("A" * 20, "b", None))
    assert not signer.set_clock(Head(403, {}))
    assert not signer.set_clock(Head(403, {"date": "yesterday"}))


@pytest.mark.usefixtures("keys")
def test_access_denied_names_both_permissions(bedrock: FakeBedrock) -> None:
    """The hint names the actions to allow."""
    message = json.dumps("User: arn:aws:iam::1:user/x is not authorized to perform: bedrock:InvokeModel on resource: y")
    bedrock.script.append(lambda handler, request: handler.send_refusal(403, "AccessDeniedException", message))
    with make_client(bedrock) as client, pytest.raises(PermissionDeniedError) as caught:
        client.chat("hi")
    assert "InvokeModelWithResponseStream" in str(caught.value.hint)
