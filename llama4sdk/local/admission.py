"""Whose turn it is: no more requests hold a cache at once than memory was planned for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["PATIENCE", "Admission"]

PATIENCE: Final = 1.0
"""Seconds without any step after which those that hold a turn are taken to be open streams that nobody reads."""


class Admission:
    """At most ``most`` requests at once; later ones wait, in the order they came.

    A stream that is open but not read would keep the next in line waiting for ever, and its reader may be the very
    thread that waits. So where nothing has moved for ``patience`` seconds, the next is let in beyond ``most``, if there
    is memory for it, and refused if there is none.
    """

    def __init__(self, most: int, *, patience: float = PATIENCE) -> None:
        self._most = most
        self._patience = patience
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._held = 0
        self._moving = 0
        self._moves = 0

    @contextmanager
    def turn(self, check: Callable[[], object], spare: Callable[[], object]) -> Iterator[None]:
        """Wait for a turn, and hold it. ``check`` and ``spare`` may raise.

        ``check`` is asked now and then whether waiting still makes sense, ``spare`` whether there is memory for one
        more than planned.
        """
        self._wait(check, spare)
        try:
            yield
        finally:
            with self._changed:
                self._held -= 1
                self._changed.notify_all()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Work is done for one that holds a turn."""
        with self._changed:
            self._moving += 1
        try:
            yield
        finally:
            with self._changed:
                self._moving -= 1
                self._moves += 1

    def wake(self) -> None:
        """Let all that wait ask their ``check`` now."""
        with self._changed:
            self._changed.notify_all()

    def _wait(self, check: Callable[[], object], spare: Callable[[], object]) -> None:
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                while self._held >= self._most or self._line[0] is not ticket:
                    moves = self._moves
                    told = self._changed.wait(self._patience)
                    check()
                    still = not told and not self._moving and self._moves == moves
                    if still and self._line[0] is ticket:
                        spare()
                        break
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()  # another is first in line now
            self._held += 1
