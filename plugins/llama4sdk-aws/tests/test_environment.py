"""Regions, addresses and profiles, as AWS' own tools resolve them."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.session import Session
from llama4sdk_aws.bedrock import SERVICE as BEDROCK
from llama4sdk_aws.bedrock import BedrockBackend
from llama4sdk_aws.environment import Service, configured_url, default_url, find_region, has_credentials, profile_name
from llama4sdk_aws.models import base_id, invocation_id, is_model_id, model_family
from llama4sdk_aws.sagemaker import SERVICE as SAGEMAKER

from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.endpoint import Endpoint
from llama4sdk.testing.machines import LAPTOP

CONFIG = """
[default]
region = us-east-2

[profile work]
region = eu-west-1
endpoint_url = http://127.0.0.1:1
services = local

[services local]
s3 =
  endpoint_url = http://127.0.0.1:2
bedrock_runtime =
  endpoint_url = http://127.0.0.1:3

[profile robot]
role_arn = arn:aws:iam::1:role/robot
source_profile = work
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file with profiles."""
    path = tmp_path / "config"
    path.write_text(CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    return path


@pytest.mark.parametrize(
    ("service", "name"), [(BEDROCK, "bedrock-runtime"), (SAGEMAKER, "sagemaker-runtime")], ids=["bedrock", "sagemaker"]
)
@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1"])
@pytest.mark.parametrize(("fips", "dualstack"), [(False, False), (True, False), (False, True), (True, True)])
def test_addresses_are_those_of_botocore(service: Service, name: str, region: str, fips: bool, dualstack: bool) -> None:
    """Each service has botocore's address in each partition."""
    if region == "cn-north-1" and (fips or service is SAGEMAKER):
        pytest.skip("there is none")
    url = default_url(service, region, fips=fips, dualstack=dualstack)
    assert url == botocore_url(name, region, fips, dualstack)


def botocore_url(service: str, region: str, fips: bool, dualstack: bool) -> str:
    """The address that botocore uses."""
    from botocore.config import Config

    session = Session()
    session.set_credentials("a", "b")
    client = session.create_client(
        service,
        region_name=region,
        config=Config(use_fips_endpoint=fips, use_dualstack_endpoint=dualstack),
    )
    try:
        return str(client.meta.endpoint_url)
    finally:
        client.close()


def test_the_region_has_an_order_of_sources(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code, an AWS address, AWS_REGION, AWS_DEFAULT_REGION, the profile."""
    url = "https://bedrock-runtime.us-west-1.amazonaws.com"
    regions = [find_region(None, None, "work")]
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    regions.append(find_region(None, None, "work"))
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    regions += [find_region(None, None, "work"), find_region(None, url, "work"), find_region("us-east-2", url, "work")]
    assert regions == ["eu-west-1", "us-east-1", "us-west-2", "us-west-1", "us-east-2"]
    other_urls = (
        "https://bedrock-runtime-fips.us-east-2.api.aws",
        "https://a.bedrock-runtime.us-east-2.vpce.amazonaws.com",
    )
    assert [find_region(None, other_url, "work") for other_url in other_urls] == ["us-east-2", "us-east-2"]
    assert find_region(None, "https://gateway.example.com/us-east-2", "work") == "us-west-2"


def test_the_profile_has_an_order_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code, AWS_PROFILE, AWS_DEFAULT_PROFILE, default."""
    profiles = [profile_name(None)]
    monkeypatch.setenv("AWS_DEFAULT_PROFILE", "b")
    profiles.append(profile_name(None))
    monkeypatch.setenv("AWS_PROFILE", "a")
    profiles += [profile_name(None), profile_name("code")]
    assert profiles == ["default", "b", "a", "code"]


def test_configured_addresses_have_an_order_of_sources(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's variable, the variable for all, the profile's entry for the service, the profile's for all."""
    urls = [configured_url(BEDROCK, "work"), configured_url(SAGEMAKER, "work"), configured_url(BEDROCK, "default")]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4")
    urls.append(configured_url(BEDROCK, "work"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "http://127.0.0.1:5")
    urls.append(configured_url(BEDROCK, "work"))
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    urls.append(configured_url(BEDROCK, "work"))
    numbers = [url and int(url.rpartition(":")[2]) for url in urls]
    assert numbers == [3, 1, None, 4, 5, None]


def test_sources_of_credentials(config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A profile with a role, a file with keys or a variable is enough."""
    assert not has_credentials("work")
    assert has_credentials("robot")
    shared = tmp_path / "credentials"
    shared.write_text("[work]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    assert has_credentials("work")
    assert not has_credentials("default")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")
    assert has_credentials("default")


def test_a_damaged_file_is_ignored(config: Path) -> None:
    """An offer does not fail over an unreadable file; botocore names its faults later."""
    config.write_bytes(b"[default\nregion\xff")
    assert find_region(None, None, "default") is None


def test_fips_and_dualstack_are_chosen(monkeypatch: pytest.MonkeyPatch, keys: None) -> None:
    """Options or AWS' variables choose them; a custom address excludes them."""
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert "bedrock-runtime-fips.us-east-1" in default_url(BEDROCK, "us-east-1", fips=None, dualstack=None)
    where = Endpoint(url="http://127.0.0.1:1", options={"fips": True})
    assert isinstance(BedrockBackend().offer(Need(model="scout", endpoint=where), LAPTOP), Unavailable)
    plain = Endpoint(options={"dualstack": True})
    assert isinstance(BedrockBackend().offer(Need(model="scout", endpoint=plain), LAPTOP), Offer)


@pytest.mark.parametrize(
    ("model", "base", "kind"),
    [
        ("us.meta.llama4-scout-17b-instruct-v1:0", "meta.llama4-scout-17b-instruct-v1:0", "llama"),
        ("meta.llama4-maverick-17b-instruct-v1:0", "meta.llama4-maverick-17b-instruct-v1:0", "llama"),
        ("arn:aws:bedrock:us-east-1::foundation-model/meta.llama4-scout-17b-instruct-v1:0",
         "meta.llama4-scout-17b-instruct-v1:0", "llama"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.llama4-scout-17b-instruct-v1:0",
         "meta.llama4-scout-17b-instruct-v1:0", "llama"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123",
         "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123", "other"),
        ("us.cohere.embed-v4:0", "cohere.embed-v4:0", "cohere"),
        ("amazon.titan-embed-text-v1", "amazon.titan-embed-text-v1", "titan"),
    ],
)  # fmt: skip
def test_ids(model: str, base: str, kind: str) -> None:
    """Ids, profiles and ARNs are recognized, and give the model's id where they name it."""
    assert is_model_id(model)
    assert base_id(model) == base
    assert model_family(model) == kind


def test_inference_profiles_are_used_where_there_are_any() -> None:
    """Llama 4's base id becomes a profile in the United States, and stays elsewhere."""
    base = "meta.llama4-scout-17b-instruct-v1:0"
    assert invocation_id(base, "us-east-2") == f"us.{base}"
    assert invocation_id(base, "eu-west-1") == base
    assert invocation_id(f"us.{base}", "us-east-2") == f"us.{base}"
