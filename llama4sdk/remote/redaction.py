"""Removes secrets from errors before they are shown. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from html import escape
from typing import Final
from urllib.parse import quote, quote_plus

REPLACEMENT: Final = "[hidden]"

#: Characters of the shortest text that is taken for a secret: hiding less would only garble the words around it.
MIN_SECRET_CHARACTERS: Final = 4


def conceal(error: BaseException, secrets: Iterable[str]) -> None:
    """Remove every secret from an error, and drop those of its causes that contain one."""
    forms = sorted({form for secret in secrets for form in _spellings(secret)}, key=len, reverse=True)
    if not forms:
        return
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, _without(value, forms))
    error.args = tuple(_without(part, forms) if isinstance(part, str) else part for part in error.args)
    _drop_causes(error, forms, set())


def _drop_causes(error: BaseException, forms: list[str], visited: set[int]) -> None:
    visited.add(id(error))
    for link in ("__cause__", "__context__"):
        cause = getattr(error, link)
        if cause is None or id(cause) in visited:
            continue
        if _contains(cause, forms):
            setattr(error, link, None)
        else:
            _drop_causes(cause, forms, visited)


def _spellings(secret: str) -> tuple[str, ...]:
    """The secret as it is, and as it is written in an address, a form, a page, or a string of JSON or Python."""
    if len(secret) < MIN_SECRET_CHARACTERS:
        return ()
    encoders = partial(quote, safe=""), quote, quote_plus
    in_addresses = (encode(secret, errors="surrogatepass") for encode in encoders)  # a variable may be no valid text
    return secret, *in_addresses, escape(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]


def _without(text: str, forms: list[str]) -> str:
    for form in forms:
        text = text.replace(form, REPLACEMENT)
    return text


def _contains(error: BaseException, forms: list[str]) -> bool:
    shown = f"{error} {error.args!r} {vars(error)!r} {getattr(error, 'object', '')!r}"
    return any(form in shown for form in forms)
