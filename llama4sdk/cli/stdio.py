"""Output that can be written everywhere: to streams that are closed, and in encodings that lack a character."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Final

#: Replacements of characters that an encoding lacks; "?" for all others.
SUBSTITUTES: Final = {"✓": "+", "✗": "x", "·": "-", "—": "-", "─": "-", "│": "|", "→": "->", "…": "...", "±": "+/-"}
HANDLER_NAME: Final = "llama4sdk-ascii"


def tolerate_any_text() -> None:
    """Make stdout and stderr accept any text, whatever their encoding, and exist even if the caller closed them."""
    codecs.register_error(HANDLER_NAME, _substitute)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the program began
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER_NAME)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks, as an error handler of ``codecs``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(SUBSTITUTES.get(letter, "?") for letter in missing), error.end
