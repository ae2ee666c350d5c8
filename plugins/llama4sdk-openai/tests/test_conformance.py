"""The contract, kept by a host of many models and by a server of one's own."""

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
    manners: ClassVar[str]
    variable: ClassVar[str]
    key: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls) -> Iterator[None]:
        with serving(cls.manners) as fake, pytest.MonkeyPatch.context() as patch:
            patch.setenv(cls.variable, fake.url)
            patch.setenv(cls.key, KEY)
            yield

    @pytest.fixture(autouse=True)
    def _no_settings(self) -> None:
        """Here the settings are those of the whole class."""


class TestTogether(_AtTheFake):
    """A host, which is not asked before it is used."""

    backend: ClassVar[type[Backend]] = TogetherBackend
    need: ClassVar[Need] = Need(model=MODEL, endpoint=Endpoint(options={"context_length": CONTEXT}))
    manners, variable, key = "together", "TOGETHER_BASE_URL", "TOGETHER_API_KEY"


class TestVllm(_AtTheFake):
    """A server of one's own, which says itself what it serves."""

    backend: ClassVar[type[Backend]] = VllmServerBackend
    need: ClassVar[Need] = Need(model=MODEL)
    manners, variable, key = "vllm", "VLLM_BASE_URL", "VLLM_API_KEY"
