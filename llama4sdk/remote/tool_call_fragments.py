"""Assembles tool calls from the fragments that servers of OpenAI's protocol stream. Pure."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llama4sdk.errors import APIError
from llama4sdk.events import ToolCallDelta


@dataclass(slots=True)
class _PartialCall:
    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    emitted: bool = False  # whether its first delta, with id and name, was yielded

    @property
    def is_complete(self) -> bool:
        """Whether its arguments are a whole JSON value."""
        try:
            json.loads(self.arguments)
        except ValueError:
            return False
        return True


class ToolCallAssembler:
    """The tool calls of one answer, in the order in which they began.

    Fragments belong together by their index; where there is none, by their id; else to the latest call. Another name or
    id begins another call, and so does the same name after complete arguments.
    """

    def __init__(self) -> None:
        self._calls: list[_PartialCall] = []
        self._by_index: dict[int, _PartialCall] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def feed(self, fragments: object) -> Iterator[ToolCallDelta]:
        """Yield the deltas that these fragments (a delta's ``tool_calls``) add."""
        for fragment in fragments if isinstance(fragments, list) else ():
            if isinstance(fragment, dict):
                yield from self._add(fragment)

    def end(self, backend: str) -> None:
        """Raise APIError for a call that was never given a name."""
        if nameless := [call for call in self._calls if not call.emitted]:
            raise APIError(
                f"'{backend}' called a tool without naming it; the arguments were {nameless[0].arguments[:80]!r}.",
                backend=backend,
                hint="Ask again, or check the server's parser of tool calls.",
            )

    def _add(self, fragment: Mapping[str, Any]) -> Iterator[ToolCallDelta]:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        call_id = str(fragment.get("id") or "")
        name = str(function.get("name") or "")
        value = function.get("arguments")
        arguments = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
        call = self._call_for(fragment.get("index"), call_id, name)
        call.id, call.name = call.id or call_id, call.name or name
        call.arguments += arguments
        if call.emitted:
            if arguments:
                yield ToolCallDelta(index=call.index, arguments=arguments)
        elif call.name:
            call.emitted = True
            call.id = call.id or f"call_{secrets.token_hex(8)}"
            yield ToolCallDelta(index=call.index, id=call.id, name=call.name, arguments=call.arguments)

    def _call_for(self, index: object, call_id: str, name: str) -> _PartialCall:
        if isinstance(index, int):
            call = self._by_index.get(index)
            if call is None or (call_id and call.id and name and call_id != call.id):
                call = self._by_index[index] = self._begin_call()
            return call
        latest = self._calls[-1] if self._calls else None
        if call_id:
            known = next((call for call in self._calls if call.id == call_id), None)
            if known is None and latest is not None and not latest.id and not name:
                known = latest
            return known or self._begin_call()
        if latest is None or (name and latest.emitted and (name != latest.name or latest.is_complete)):
            return self._begin_call()
        return latest

    def _begin_call(self) -> _PartialCall:
        self._calls.append(_PartialCall(len(self._calls)))
        return self._calls[-1]
