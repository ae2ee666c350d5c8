"""Keeping secrets out of what is shown of an error. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from html import escape
from typing import Final
from urllib.parse import quote, quote_plus

__all__ = ["conceal"]

HIDDEN: Final = "[hidden]"

SHORTEST: Final = 4
"""Characters of what is taken for a secret: hiding less would only garble the words around it."""


def conceal(error: BaseException, secrets: Iterable[str]) -> None:
    """Take every secret out of an error, and cut off those of its causes that hold one."""
    forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
    if not forms:
        return
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, _without(value, forms))
    error.args = tuple(_without(part, forms) if isinstance(part, str) else part for part in error.args)
    _cut(error, forms, set())


def _cut(error: BaseException, forms: list[str], seen: set[int]) -> None:
    seen.add(id(error))
    for link in ("__cause__", "__context__"):
        cause = getattr(error, link)
        if cause is None or id(cause) in seen:
            continue
        if _shows(cause, forms):
            setattr(error, link, None)
        else:
            _cut(cause, forms, seen)


def _forms(secret: str) -> tuple[str, ...]:
    """As it is, and as it would stand in an address, a form, a page, or a string of JSON or Python."""
    if len(secret) < SHORTEST:
        return ()
    ways = partial(quote, safe=""), quote, quote_plus
    in_addresses = (way(secret, errors="surrogatepass") for way in ways)  # a variable may hold what is no text
    return secret, *in_addresses, escape(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]


def _without(text: str, forms: list[str]) -> str:
    for form in forms:
        text = text.replace(form, HIDDEN)
    return text


def _shows(error: BaseException, forms: list[str]) -> bool:
    told = f"{error} {error.args!r} {vars(error)!r} {getattr(error, 'object', '')!r}"
    return any(form in told for form in forms)
