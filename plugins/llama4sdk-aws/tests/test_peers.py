"""Independent servers and clients: LocalStack's formats, moto's signatures, AWS' SDK for JavaScript.

They are large; ``tox run -e peers-aws`` installs them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from botocore.config import Config

from llama4sdk.client import Client
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import (
    APIError,
    APIStatusError,
    AuthenticationError,
    ContextLengthError,
    PermissionDeniedError,
)
from llama4sdk.requests import Request
from llama4sdk.testing.machines import LAPTOP

from .clients import QUICK, WEATHER, image_message, make_client
from .fake_bedrock import SCOUT, TITAN, FakeBedrock, converse_frames
from .test_boto3 import HI, PNG, make
from .test_frames import THROTTLED
from .wire_format import ACCESS_KEY, SECRET_KEY

needs_localstack = pytest.mark.skipif(not importlib.util.find_spec("localstack"), reason="localstack-core is not here")
needs_moto = pytest.mark.skipif(not importlib.util.find_spec("moto"), reason="moto is not here")
needs_js = pytest.mark.skipif(
    not (Path(os.environ.get("PEERS_NODE_MODULES", "/nowhere")).is_dir() and shutil.which("node")),
    reason="PEERS_NODE_MODULES names no folder of modules for node",
)

ARN = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{SCOUT}"


@pytest.fixture
def localstack() -> Iterator[Any]:
    """Bedrock in LocalStack's formats."""
    from .localstack_bedrock import LocalStack

    with LocalStack("bedrock-runtime", "bedrock") as server:
        yield server


@needs_localstack
@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("model", [SCOUT, ARN], ids=["profile", "arn"])
def test_localstack_reads_the_requests(localstack: Any, model: str) -> None:
    """LocalStack parses the requests, and its frames are read five bytes at a time."""
    with make_client(localstack, model) as client:
        answer = client.chat("hi there, naïve 日本 🦙", max_tokens=5, temperature=0.5, top_p=0.5, stop="zzz")
        call = client.chat("Is it warm?", tools=[WEATHER])
        client.chat(image_message(PNG))
        raw = client.generate("Once upon a time", max_tokens=5)
        counted = client._session.engine().count_tokens(Request(prompt="Once"))
    assert (answer.text, answer.usage.input_tokens) == ("hi there, naïve 日本 🦙 ", 3)
    assert (call.text, call.tool_calls[0].parsed()) == ("Let me look.", {"city": "Lima"})
    assert (raw.text, raw.finish_reason, counted) == ("Once upon a time ", "stop", 42)
    operations = [operation for operation, _ in localstack.parsed]
    assert operations == [
        "ConverseStream",
        "Converse",
        "ConverseStream",
        "InvokeModelWithResponseStream",
        "CountTokens",
    ]
    first, second, third = (parameters for _, parameters in localstack.parsed[:3])
    assert first["modelId"] == model
    assert first["inferenceConfig"] == {"maxTokens": 5, "temperature": 0.5, "topP": 0.5, "stopSequences": ["zzz"]}
    assert second["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"] == WEATHER.parameters
    assert third["messages"][0]["content"][1]["image"]["source"]["bytes"] == PNG


@needs_localstack
@pytest.mark.usefixtures("keys")
def test_localstacks_errors_are_read(localstack: Any) -> None:
    """A refusal in its format, and a wrong key."""
    with make_client(localstack) as client, pytest.raises(ContextLengthError):
        client.chat("too long")
    with make_client(localstack, api_key=f"{ACCESS_KEY}:wrong") as client, pytest.raises(AuthenticationError) as caught:
        client.chat("hi")
    assert caught.value.status == 403


@needs_localstack
@pytest.mark.usefixtures("keys")
def test_localstack_embeds(localstack: Any) -> None:
    """Titan's vector is normalized."""
    with make_client(localstack, TITAN) as client:
        assert client.embed("hi there").vectors == ((0.6, 0.8),)


@needs_localstack
def test_boto3_reads_localstack_too(localstack: Any) -> None:
    """AWS' own client reads the same server."""
    client = make(localstack, "bedrock-runtime")
    events = list(client.converse_stream(modelId=ARN, messages=HI)["stream"])
    assert "metadata" in events[-1]
    client.close()


@needs_localstack
@pytest.mark.usefixtures("keys")
def test_localstacks_sagemaker_is_read() -> None:
    """Its frames have raw bytes."""
    from .localstack_bedrock import LocalStack

    with LocalStack("sagemaker-runtime", "sagemaker") as server, make_client(server, "llama") as client:
        answer = client.generate("Once", max_tokens=9)
    assert (answer.text, answer.usage.output_tokens) == ("Once upon", 2)
    name, parameters = server.parsed[0]
    assert (name, parameters["EndpointName"]) == ("InvokeEndpointWithResponseStream", "llama")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Moto's server; the five requests that make a user and a role are not checked, all others are."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "5"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urlopen(f"{url}/moto-api/").close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def moto_keys(moto: str) -> tuple[str, str, str]:
    """The keys of a user with all permissions, and a role that it may assume."""
    iam = boto3.client(
        "iam",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )
    everything = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    )
    trust = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
        }
    )
    iam.create_user(UserName="tester")
    key = iam.create_access_key(UserName="tester")["AccessKey"]
    iam.put_user_policy(UserName="tester", PolicyName="all", PolicyDocument=everything)
    role = iam.create_role(RoleName="asker", AssumeRolePolicyDocument=trust)["Role"]
    iam.put_role_policy(RoleName="asker", PolicyName="all", PolicyDocument=everything)
    iam.close()
    return key["AccessKeyId"], key["SecretAccessKey"], role["Arn"]


def ask_moto(url: str, model: str = "scout", **settings: Any) -> Client:
    """A client of moto's Bedrock."""
    endpoint = Endpoint(url=url, options={"region": "us-east-1"}, retry=QUICK.model_copy(update={"retries": 0}))
    return Client(model, backend="bedrock", endpoint=endpoint, hardware=LAPTOP, **settings)


@needs_moto
@pytest.mark.parametrize("model", [TITAN, ARN, SCOUT])
def test_moto_accepts_the_signature(moto: str, moto_keys: tuple[str, str, str], model: str) -> None:
    """With the right key the error is that moto has no answer."""
    key, secret, _ = moto_keys
    with ask_moto(moto, model, api_key=f"{key}:{secret}") as client, pytest.raises(APIError) as caught:
        if model == TITAN:
            client.embed("hi")
        else:
            client.chat("hi")
    assert not isinstance(caught.value, AuthenticationError | PermissionDeniedError)
    if model == TITAN:  # the one operation it knows answers {}
        assert "without an embedding" in caught.value.message
    else:
        assert isinstance(caught.value, APIStatusError)
        assert (caught.value.status or 0) >= 404


@needs_moto
@pytest.mark.parametrize("wrong", ["secret", "key"])
def test_moto_refuses_a_wrong_signature(moto: str, moto_keys: tuple[str, str, str], wrong: str) -> None:
    """A wrong secret and an unknown key are refused."""
    key, secret, _ = moto_keys
    api_key = f"{key}:{secret[::-1]}" if wrong == "secret" else f"AKIANOBODYKNOWSTHIS0:{secret}"
    with ask_moto(moto, api_key=api_key) as client, pytest.raises(AuthenticationError) as caught:
        client.chat("hi")
    assert caught.value.status == 403


@needs_moto
def test_a_role_is_assumed(
    moto: str, moto_keys: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STS gives a profile's role its keys, and moto accepts what they sign."""
    key, secret, role = moto_keys
    config = tmp_path / "config"
    config.write_text(
        f"[profile user]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        f"[profile role]\nrole_arn = {role}\nsource_profile = user\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "role")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    with ask_moto(moto, TITAN) as client, pytest.raises(APIError, match="without an embedding"):
        client.embed("hi")
    monkeypatch.setenv("AWS_PROFILE", "wrong")
    config.write_text(config.read_text().replace(secret, secret[::-1]).replace("profile role", "profile wrong"))
    with ask_moto(moto, TITAN) as client, pytest.raises(AuthenticationError, match="AssumeRole"):
        client.embed("hi")


@needs_js
def test_the_javascript_sdk_reads_the_fake() -> None:
    """AWS' other client reads answers, streams, exceptions, errors and a refused key."""
    frames = converse_frames([{"text": "hi"}], "end_turn", {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2})
    with FakeBedrock() as fake:
        fake.script.extend([None] * 4)
        fake.script.append(lambda handler, request: handler.stream([*frames[:2], THROTTLED]))
        done = subprocess.run(
            ["node", str(Path(__file__).with_name("sdk.cjs"))],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "NODE_PATH": os.environ["PEERS_NODE_MODULES"],
                "BEDROCK_URL": fake.url,
                "BEDROCK_KEY": ACCESS_KEY,
                "BEDROCK_SECRET": SECRET_KEY,
            },
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "converse": ["hi there, naïve 日本 🦙", "end_turn", 5],
        "text": "hi there, naïve 日本 🦙",
        "stop": "end_turn",
        "read": 6,
        "invoked": "Once upon a",
        "chunks": "Once upon a",
        "within": "ThrottlingException",
        "invalid": "ValidationException",
        "wrong": ["InvalidSignatureException", 403],
    }
