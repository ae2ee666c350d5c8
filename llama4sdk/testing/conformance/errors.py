"""Failures a user can act on: the SDK's own errors, with words."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama4sdk.errors import BackendError
from llama4sdk.plan import Plan
from llama4sdk.testing.conformance.ground import Ground, assert_sentence, assert_that


class Errors(Ground):
    """``Backend.load`` with weights that are not there, or are not weights."""

    def test_missing_weights_are_named(self, working_plan: Plan, tmp_path: Path) -> None:
        """Weights that are not where the plan says raise a BackendError that names the place."""
        gone = tmp_path / "gone"
        error = self._load_error(working_plan, gone)
        assert_that(
            gone.name in str(error), f"The error does not name {gone}: {error}", fix="name the path in the message."
        )

    def test_damaged_weights_are_an_error(self, working_plan: Plan, tmp_path: Path) -> None:
        """A file that holds no weights raises a BackendError."""
        damaged = tmp_path / "damaged.gguf"
        damaged.write_bytes(b"no weights at all")
        self._load_error(working_plan, damaged)

    def _load_error(self, plan: Plan, source: Path) -> BackendError:
        if plan.source is None:
            pytest.skip("the backend reads no weights: its plan has no source")
        try:
            engine = self.backend().load(plan.model_copy(update={"source": str(source)}))
        except BackendError as error:
            assert_sentence(str(error), "The error's message")
            return error
        except Exception as error:  # a stranger's error is what this test is about
            raise AssertionError(
                f"load() raised {error!r}.\nFix: raise ModelLoadError or WeightsNotFoundError from it."
            ) from error
        engine.close()
        raise AssertionError("load() made an engine of nothing.\nFix: check what is read before it is used.")
