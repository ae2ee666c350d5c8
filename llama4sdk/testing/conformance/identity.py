"""The backend's description, and what it costs to read it."""

from __future__ import annotations

import importlib
from typing import Final

from llama4sdk.backend import CONTRACT_VERSION, BackendInfo
from llama4sdk.registry import Registered
from llama4sdk.testing.child import imports_of
from llama4sdk.testing.conformance.ground import Ground, assert_sentence, assert_that

#: Modules that take long to import, whoever uses them.
HEAVY: Final = frozenset(
    {"boto3", "jax", "mlx", "numpy", "onnxruntime", "openai", "requests", "tensorflow", "torch", "transformers", "vllm"}
)


class Identity(Ground):
    """``BackendInfo``, as any client reads it."""

    def test_the_entry_point_leads_to_it(self) -> None:
        """The registry finds the backend through an installed entry point."""
        self.find()

    def test_name_matches(self, info: BackendInfo) -> None:
        """The card and the class have one name."""
        assert_that(
            info.name == self.backend.name,
            f"BackendInfo.name is '{info.name}', but {self.backend.__name__}.name is '{self.backend.name}'.",
            fix="give both the same name.",
        )

    def test_the_card_names_this_class(self, info: BackendInfo) -> None:
        """``BackendInfo.cls`` can be imported and is the class under test."""
        module, _, name = info.cls.partition(":")
        try:
            target = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            target = error
        assert_that(
            target is self.backend,
            f"BackendInfo.cls is '{info.cls}', which gives {target!r} and not {self.backend!r}.",
            fix=f"write cls='{self.backend.__module__}:{self.backend.__qualname__}'.",
        )

    def test_the_summary_says_something(self, info: BackendInfo) -> None:
        """The card's summary, shown by ``llama4sdk backends``, is a sentence."""
        assert_sentence(info.summary, "BackendInfo.summary")

    def test_it_speaks_this_contract(self, info: BackendInfo) -> None:
        """The card is written for the contract of the installed core."""
        assert_that(
            info.contract == CONTRACT_VERSION,
            f"BackendInfo.contract is {info.contract}, this core speaks {CONTRACT_VERSION}.",
            fix="leave 'contract' at its default and depend on the core version you built against.",
        )

    def test_the_hook_imports_nothing_heavy(self, registered: Registered) -> None:
        """Finding the backend in a fresh interpreter loads none of the modules that make imports slow."""
        avoided = HEAVY | {name.partition(".")[0] for name in registered.info.requires}
        loaded = sorted(avoided & imports_of(registered.plugin))
        assert_that(
            not loaded,
            f"Asking the hook of plugin '{registered.plugin}' imports {', '.join(loaded)}.",
            fix="keep the hook in a module that imports only llama4sdk, and let 'cls' name a class in another module.",
        )

    def test_it_is_made_without_arguments(self) -> None:
        """``Backend()`` takes nothing; two are two objects."""
        first, second = self.backend(), self.backend()
        assert_that(
            first is not second,
            f"{self.backend.__name__}() returned the same object twice.",
            fix="keep no instance in the class or the module; two clients must not share state.",
        )
