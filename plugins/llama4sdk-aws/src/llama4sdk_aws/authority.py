"""Who answers for a request: a bearer key, or (in ``signing``, which loads botocore) a signature."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

from llama4sdk.remote.dialect import Call, Head

__all__ = ["Authority", "Bearer", "Keys"]

KEYS: Final = re.compile(r"([A-Z0-9]{16,128}):([^:\s]+)(?::([^:\s]+))?")


class Authority(ABC):
    """Puts credentials on calls; used by several threads at once."""

    @property
    def waits(self) -> bool:
        """Whether ``authorize`` may now read files or ask a server."""
        return False

    @abstractmethod
    def authorize(self, call: Call) -> Call:
        """The call as it is sent."""

    def forget(self) -> bool:
        """Look for other credentials next time; ``False`` where there can be none."""
        return False

    def set_clock(self, head: Head) -> bool:
        """Keep to the endpoint's clock from now on; ``False`` where its time is not said, or does not matter."""
        return False

    @abstractmethod
    def secrets(self) -> Sequence[str]:
        """What must not appear in any message."""


class Bearer(Authority):
    """A Bedrock API key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def authorize(self, call: Call) -> Call:
        """With the key."""
        return call.with_headers(Authorization=f"Bearer {self._key}")

    def secrets(self) -> Sequence[str]:
        """The key."""
        return (self._key,)


class Keys(NamedTuple):
    """Given in code, instead of those the environment has."""

    access_key: str
    secret_key: str
    token: str | None

    @classmethod
    def read(cls, text: str) -> Keys | None:
        """From ``ID:SECRET`` or ``ID:SECRET:TOKEN``; ``None`` for what is another kind of key."""
        found = KEYS.fullmatch(text)
        return cls(found[1], found[2], found[3]) if found else None
