"""The conformance kit, run with a host of many models and with a self-hosted server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from llama4sdk_openai.backends import TogetherBackend, VllmServerBackend

from llama4sdk.backend import Backend, Need
from llama4sdk.endpoint import Endpoint
from llama4sdk.testing import BackendConformance

from .fake_server import CONTEXT, KEY, MODEL, serving


class _AtTheFake(BackendConformance):
    dialect: ClassVar[str]
    variable: ClassVar[str]
    key: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls) -> Iterator[None]:
        with serving(cls.dialect) as fake, pytest.MonkeyPatch.context() as patch:
            patch.setenv(cls.variable, fake.url)
            patch.setenv(cls.key, KEY)
            yield

    @pytest.fixture(autouse=True)
    def _no_settings(self) -> None:
        """Keep the settings of the whole class."""


class TestTogether(_AtTheFake):
    """A host, which is not contacted for an offer."""

    backend: ClassVar[type[Backend]] = TogetherBackend
    need: ClassVar[Need] = Need(model=MODEL, endpoint=Endpoint(options={"context_length": CONTEXT}))
    dialect, variable, key = "together", "TOGETHER_BASE_URL", "TOGETHER_API_KEY"


class TestVllm(_AtTheFake):
    """A self-hosted server, which is asked for its models."""

    backend: ClassVar[type[Backend]] = VllmServerBackend
    need: ClassVar[Need] = Need(model=MODEL)
    dialect, variable, key = "vllm", "VLLM_BASE_URL", "VLLM_API_KEY"
