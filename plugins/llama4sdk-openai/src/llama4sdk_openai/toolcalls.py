"""Tool calls put together of what servers stream of them. Pure."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llama4sdk.errors import APIError
from llama4sdk.events import ToolCallDelta

__all__ = ["ToolCalls"]


@dataclass(slots=True)
class _Call:
    place: int
    id: str = ""
    name: str = ""
    begun: bool = False
    """Whether its first piece, with id and name, was given on."""
    written: str = ""
    """Its arguments so far."""

    @property
    def whole(self) -> bool:
        """Whether its arguments are complete."""
        try:
            json.loads(self.written)
        except ValueError:
            return False
        return True


class ToolCalls:
    """The calls of one answer, in the order in which they began.

    Fragments belong together by their index; where there is none by their id; else to the call that was last. Another
    name or id begins another call, and so does the same name behind arguments that are complete.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def feed(self, fragments: object) -> Iterator[ToolCallDelta]:
        """What these fragments add."""
        for fragment in fragments if isinstance(fragments, list) else ():
            if isinstance(fragment, dict):
                yield from self._take(fragment)

    def end(self, backend: str) -> None:
        """Raise APIError for a call that was never given a name."""
        if nameless := [call for call in self._calls if not call.begun]:
            raise APIError(
                f"'{backend}' called a tool without naming it; the arguments were {nameless[0].written[:80]!r}.",
                backend=backend,
                hint="Ask again, or check the server's parser of tool calls.",
            )

    def _take(self, fragment: Mapping[str, Any]) -> Iterator[ToolCallDelta]:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        call_id = str(fragment.get("id") or "")
        name = str(function.get("name") or "")
        written = function.get("arguments")
        arguments = written if isinstance(written, str) else "" if written is None else json.dumps(written)
        call = self._of(fragment.get("index"), call_id, name)
        call.id, call.name = call.id or call_id, call.name or name
        call.written += arguments
        if call.begun:
            if arguments:
                yield ToolCallDelta(index=call.place, arguments=arguments)
            return
        if call.name:
            call.begun = True
            call.id = call.id or f"call_{secrets.token_hex(8)}"
            yield ToolCallDelta(index=call.place, id=call.id, name=call.name, arguments=call.written)

    def _of(self, index: object, call_id: str, name: str) -> _Call:
        if isinstance(index, int):
            known = self._by_index.get(index)
            if known is None or (call_id and known.id and name and call_id != known.id):
                known = self._by_index[index] = self._begin()
            return known
        if call_id:
            known = next((call for call in self._calls if call.id == call_id), None)
            unnamed = self._calls[-1] if self._calls and not self._calls[-1].id else None
            return known or (unnamed if unnamed is not None and not name else None) or self._begin()
        last = self._calls[-1] if self._calls else None
        if last is None or (name and last.begun and (name != last.name or last.whole)):
            return self._begin()
        return last

    def _begin(self) -> _Call:
        self._calls.append(_Call(len(self._calls)))
        return self._calls[-1]
