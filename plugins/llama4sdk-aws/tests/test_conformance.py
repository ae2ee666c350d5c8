"""The conformance kit for both backends, run with fakes that check every signature."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from llama4sdk_aws.bedrock import BedrockBackend
from llama4sdk_aws.sagemaker import SageMakerBackend

from llama4sdk.backend import Need
from llama4sdk.testing import BackendConformance
from llama4sdk.testing.conformance.embeddings import Embedding

from .fake_bedrock import COHERE, TITAN, FakeBedrock
from .fake_sagemaker import FakeSageMaker
from .wire_format import ACCESS_KEY, SECRET_KEY


@pytest.fixture(scope="class")
def aws_settings() -> Iterator[pytest.MonkeyPatch]:
    """Keys and a region for a whole class."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setenv("AWS_REGION", "us-east-1")
        yield patch


@pytest.fixture(scope="class")
def _fake_bedrock(aws_settings: pytest.MonkeyPatch) -> Iterator[None]:
    with FakeBedrock() as fake:
        aws_settings.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", fake.url)
        yield


@pytest.mark.usefixtures("_fake_bedrock")
class TestBedrock(BackendConformance):
    """The kit for ``bedrock``."""

    backend = BedrockBackend
    need = Need(model="scout", context_length=2048)


@pytest.fixture(scope="class")
def _fake_lmi(aws_settings: pytest.MonkeyPatch) -> Iterator[None]:
    with FakeSageMaker() as fake:
        aws_settings.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", fake.url)
        yield


@pytest.mark.usefixtures("_fake_lmi")
class TestSageMaker(BackendConformance):
    """The kit for ``sagemaker``, with a container that writes lines of JSON."""

    backend = SageMakerBackend
    need = Need(model="llama", context_length=2048)


@pytest.mark.usefixtures("_fake_bedrock")
class TestTitan(Embedding):
    """The kit for embeddings, one text a call."""

    backend = BedrockBackend
    need = Need(model=TITAN)


@pytest.mark.usefixtures("_fake_bedrock")
class TestCohere(Embedding):
    """The kit for embeddings, many texts a call."""

    backend = BedrockBackend
    need = Need(model=COHERE)
