"""The contract of ``llama4sdk.backend`` as tests. Subclass ``BackendConformance`` in a test module of your plugin:

    from llama4sdk.testing import BackendConformance
    from my_package.backend import MyBackend

    class TestMyBackend(BackendConformance):
        backend = MyBackend

Other settings are listed in ``ground.Ground``. A test of something your backend does not declare is
skipped with that reason. A test that cannot pass yet is not removed but marked, and stays in the report:

        @pytest.mark.xfail(strict=True, reason="upstream reports no usage: <link>")
        def test_usage_is_reported(self, engine, info):
            super().test_usage_is_reported(engine, info)
"""

from __future__ import annotations

from llama4sdk.errors import ConfigurationError

try:
    import pytest  # noqa: F401
except ModuleNotFoundError as error:
    raise ConfigurationError(
        "llama4sdk.testing.BackendConformance is a set of pytest tests, and pytest is not installed.",
        hint="Run: python -m pip install 'pytest>=8'",
    ) from error

from llama4sdk.testing.conformance.embeddings import Embedding
from llama4sdk.testing.conformance.errors import Errors
from llama4sdk.testing.conformance.identity import Identity
from llama4sdk.testing.conformance.lifecycle import Lifecycle
from llama4sdk.testing.conformance.limits import Limits
from llama4sdk.testing.conformance.offers import Offers
from llama4sdk.testing.conformance.parity import Parity
from llama4sdk.testing.conformance.scoring import Scoring
from llama4sdk.testing.conformance.stream import Streams
from llama4sdk.testing.conformance.structured_output import StructuredOutput

__all__ = ["BackendConformance"]


class BackendConformance(
    Identity, Offers, Streams, Limits, StructuredOutput, Lifecycle, Embedding, Scoring, Parity, Errors
):
    """Every rule of the contract, one test each."""

    def __init_subclass__(cls) -> None:
        """Raise TypeError when a standard test was overridden or removed without an xfail mark and a reason."""
        super().__init_subclass__()
        names = [name for name in dir(BackendConformance) if name.startswith("test_")]
        replaced = [name for name in names if getattr(cls, name, None) is not getattr(BackendConformance, name)]
        silent = [name for name in replaced if not _is_excused(getattr(cls, name, None))]
        if silent:
            raise TypeError(
                f"{cls.__name__} overrides standard conformance tests: {', '.join(silent)}. "
                f'Mark each @pytest.mark.xfail(strict=True, reason="…") and call super(), or remove the override.'
            )


def _is_excused(test: object) -> bool:
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "xfail"]
    return any(mark.kwargs.get("strict") is True and mark.kwargs.get("reason") for mark in marks)
