"""Puts credentials on calls: a bearer key here, signatures in ``signing``, which loads botocore."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

from llama4sdk.remote.dialect import Call, Head

AWS_KEYS: Final = re.compile(r"([A-Z0-9]{16,128}):([^:\s]+)(?::([^:\s]+))?")


class Authorizer(ABC):
    """Puts credentials on calls; used by several threads at once."""

    @property
    def authorize_blocks(self) -> bool:
        """Whether ``authorize`` may now read files or ask a server."""
        return False

    @abstractmethod
    def authorize(self, call: Call) -> Call:
        """Return the call with credentials."""

    def forget(self) -> bool:
        """Look for other credentials next time; ``False`` where there can be none."""
        return False

    def set_clock(self, head: Head) -> bool:
        """Use the endpoint's clock from now on; ``False`` where its time is not said, or does not matter."""
        return False

    @abstractmethod
    def secrets(self) -> Sequence[str]:
        """Return the strings that no message may show."""


class BearerAuthorizer(Authorizer):
    """Sends a Bedrock API key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def authorize(self, call: Call) -> Call:
        """Return the call with the key."""
        return call.with_headers(Authorization=f"Bearer {self._key}")

    def secrets(self) -> Sequence[str]:
        """Return the key."""
        return (self._key,)


class AwsKeys(NamedTuple):
    """Keys given in code, instead of those of the environment."""

    access_key: str
    secret_key: str
    token: str | None

    @classmethod
    def parse(cls, text: str) -> AwsKeys | None:
        """Read ``ID:SECRET`` or ``ID:SECRET:TOKEN``; ``None`` for another kind of key."""
        match = AWS_KEYS.fullmatch(text)
        return cls(match[1], match[2], match[3]) if match else None
