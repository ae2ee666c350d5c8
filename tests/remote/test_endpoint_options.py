"""A backend's options are validated alike, and their values are never repeated."""

from __future__ import annotations

import pytest
from pydantic import Field

from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError, UnknownOptionError
from llama4sdk.remote.endpoint_options import parse_endpoint_options


class Options(Value):
    """The options of a backend."""

    region: str | None = Field(default=None, pattern="^[a-z]+$")
    project: str | None = None


def parse(values: dict[str, str | int], names: tuple[str, ...] | None = None) -> Options:
    """Validate options of the backend ``server``."""
    return parse_endpoint_options(Options, {**values}, backend="server", manual="The manual", names=names)


def test_valid_options_are_returned() -> None:
    """Options that are left out have their defaults."""
    assert parse({"region": "eu"}) == Options(region="eu")


def test_unknown_options_name_the_nearest() -> None:
    """The hint has the options that the backend takes, and no value."""
    with pytest.raises(UnknownOptionError, match="'server' has no option 'regoin'") as caught:
        parse({"regoin": "secret"})
    assert caught.value.hint == "Did you mean 'region'? Options: project, region. Keys belong into api_key."
    with pytest.raises(UnknownOptionError, match="no option 'project'"):
        parse({"project": "p"}, names=("region",))


@pytest.mark.parametrize("value", ["SECRET", 12345])
def test_wrong_values_are_not_repeated(value: str | int) -> None:
    """A key in the wrong place does not reach a log."""
    with pytest.raises(ConfigurationError, match="'server' are wrong: region") as caught:
        parse({"region": value})
    assert str(value) not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
