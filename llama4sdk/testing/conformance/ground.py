"""Settings of the conformance kit that a subclass may change, the fixtures made from them, and assertions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import ClassVar, TypeAlias, TypeVar

import pytest

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Feature, Need, Offer
from llama4sdk.client import BaseClient
from llama4sdk.hardware import Hardware
from llama4sdk.messages import Message
from llama4sdk.plan import Plan
from llama4sdk.registry import Registered, Registry
from llama4sdk.requests import Request, SamplingParams
from llama4sdk.testing.machines import LAPTOP

EngineMaker: TypeAlias = Callable[[], Engine]

AnyClient = TypeVar("AnyClient", bound=BaseClient)


class Ground:
    """Set ``backend``; the rest has defaults that fit most."""

    #: The class under test. It must be installed, so that its entry point can be found.
    backend: ClassVar[type[Backend]]
    #: The need that offers are made for; name a model here if it makes no offer without one.
    need: ClassVar[Need] = Need()
    #: The machine that offers are made for, and that engines are loaded on.
    hardware: ClassVar[Hardware] = LAPTOP
    #: The plan that engines are loaded from; made from the backend's own offer when ``None``.
    plan: ClassVar[Plan | None] = None
    #: A message to answer; must lead to at least six tokens.
    prompt: ClassVar[str] = "What is the capital of France? Answer in one whole sentence."
    #: Raw text to continue, by at least six tokens.
    beginning: ClassVar[str] = "Once upon a time there was a young llama who"
    #: Should lead to an answer with characters of several bytes.
    unicode_prompt: ClassVar[str] = "Please repeat: naïve café, 日本語, 🦙 👩\u200d🚀 🇫🇷."
    #: Different texts to embed.
    texts: ClassVar[tuple[str, ...]] = ("A cat sleeps on the warm roof.", "Interest rates rose again.", "Bonjour !")
    #: How long ordinary answers may get; fewer is quicker, eight at least.
    max_tokens: ClassVar[int] = 16
    #: How many requests are sent at once.
    threads: ClassVar[int] = 4
    #: Set to ``False`` only when the service behind a remote backend counts no tokens.
    reports_usage: ClassVar[bool] = True

    @pytest.fixture(scope="class")
    @classmethod
    def registered(cls) -> Registered:
        """The backend's entry in the registry."""
        return cls.find()

    @pytest.fixture(scope="class")
    @classmethod
    def info(cls, registered: Registered) -> BackendInfo:
        """The backend's description, as its hook returns it."""
        return registered.info

    @pytest.fixture(scope="class")
    @classmethod
    def working_plan(cls, info: BackendInfo) -> Plan:
        """The plan that engines are loaded from: ``plan``, or one made of the offer for ``need`` on ``hardware``."""
        return cls.plan or plan_from(cls.find_offer(), info)

    @pytest.fixture(scope="class")
    @classmethod
    def can(cls, working_plan: Plan) -> Capabilities:
        """The capabilities that the engines under test declare."""
        return working_plan.capabilities

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, working_plan: Plan) -> Iterator[Engine]:
        """One engine, shared by the tests that do not change it."""
        engine = cls.backend().load(working_plan)
        yield engine
        engine.close()

    @pytest.fixture
    def make_engine(self, working_plan: Plan) -> Iterator[EngineMaker]:
        """A function that loads another engine; all are closed after the test."""
        engines: list[Engine] = []

        def make() -> Engine:
            engines.append(self.backend().load(working_plan))
            return engines[-1]

        yield make
        for engine in engines:
            with suppress(Exception):  # what closing twice does is one test's concern, not every test's
                engine.close()

    @classmethod
    def find(cls) -> Registered:
        """The backend's entry in the registry. Fails the test, with the failures of plugins, where there is none."""
        registry = Registry.discover()
        for entry in registry.backends:
            if entry.info.cls == f"{cls.backend.__module__}:{cls.backend.__qualname__}" or (
                entry.info.name == cls.backend.name
            ):
                return entry
        broken = "".join(f"\nBroken plugin {f.plugin} of {f.distribution}: {f.reason}" for f in registry.failures)
        pytest.fail(
            f"No installed plugin brings {cls.backend.__name__} (name '{cls.backend.name}').{broken}\n"
            "Fix: add an entry point of group 'llama4sdk' that names a module with a llama4sdk_backends hook, and "
            "install the package (python -m pip install -e .).",
            pytrace=False,
        )

    @classmethod
    def find_offer(cls) -> Offer:
        """The backend's own offer. Fails the test when there is none."""
        offer = cls.backend().offer(cls.need, cls.hardware)
        if isinstance(offer, Offer):
            return offer
        pytest.fail(
            f"{cls.backend.__name__} offers nothing for {cls.need!r} on the test's hardware: {offer!r}\n"
            "Fix: set 'need' and 'hardware' of the test class to something the backend can serve here.",
            pytrace=False,
        )

    def client(self, kind: type[AnyClient], info: BackendInfo) -> AnyClient:
        """A client of this backend alone, for the same need on the same machine."""
        need = self.need
        return kind(
            need.model,
            backend=info.name,
            device=need.device,
            quantization=need.quantization,
            context_length=need.context_length,
            hardware=self.hardware,
        )

    def request(self, can: Capabilities, prompt: str | None = None, **sampling: object) -> Request:
        """A short, repeatable request in a form the backend declares, with those of the options that it declares."""
        options = {"max_tokens": self.max_tokens, "temperature": 0, "seed": 7} | sampling
        declared = {name: value for name, value in options.items() if name in can.sampling}
        params = SamplingParams.model_validate(declared)
        if "chat" in can.features:
            return chat(prompt or self.prompt, params)
        return Request(prompt=prompt or self.beginning, sampling=params)

    def steady(self, can: Capabilities, prompt: str | None = None, **sampling: object) -> Request:
        """A request with a deterministic answer. Skips the test where the backend has neither temperature nor seed."""
        if not can.sampling & {"temperature", "seed"}:
            pytest.skip("without the sampling options 'temperature' and 'seed' no answer can be had twice")
        return self.request(can, prompt, **sampling)


def chat(text: str, sampling: SamplingParams) -> Request:
    """One user message to answer."""
    return Request(messages=(Message(role="user", content=text),), sampling=sampling)


def plan_from(offer: Offer, info: BackendInfo) -> Plan:
    """The plan a planner would make of this offer alone."""
    fields = offer.model_dump(exclude={"reason", "capabilities", "quantization_reason"})
    return Plan(backend=info.name, capabilities=offer.capabilities or info.capabilities, **fields)


def require_feature(can: Capabilities, feature: Feature) -> None:
    """Skip the test, saying why, unless the feature is declared."""
    if feature not in can.features:
        pytest.skip(f"the backend does not declare the feature '{feature}'")


def require_option(can: Capabilities, option: str) -> None:
    """Skip the test, saying why, unless the sampling option is declared."""
    if option not in can.sampling:
        pytest.skip(f"the backend does not declare the sampling option '{option}'")


def assert_that(ok: bool, problem: str, *, fix: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    """Fail with the problem and its fix unless ``ok``."""
    __tracebackhide__ = True
    if not ok:
        raise AssertionError(f"{problem}\nFix: {fix}")


def assert_sentence(text: str, owner: str) -> None:
    """Fail unless ``text`` says something a person can use: three words at least."""
    __tracebackhide__ = True
    assert_that(
        len(text.split()) >= 3,
        f"{owner} is {text!r}, which explains nothing.",
        fix="write one sentence with the values that led to it, such as 'it needs 61 GB, 24 GB are free'.",
    )
