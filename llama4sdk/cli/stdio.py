"""Output that can be written everywhere: to streams that are closed, and in encodings that lack a character."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Final

__all__ = ["prepare"]

PLAIN: Final = {"✓": "+", "✗": "x", "·": "-", "→": "->", "…": "...", "—": "-", "±": "+/-", "│": "|", "─": "-"}
HANDLER: Final = "llama4sdk-plain"


def prepare() -> None:
    """Make stdout and stderr take any text."""
    codecs.register_error(HANDLER, _plainly)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the program began
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What a terminal lacks becomes what is nearest; a terminal is no reason to fail."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
