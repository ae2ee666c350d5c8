"""No secret in anything that is shown of an error."""

from __future__ import annotations

import itertools
import json
import pickle
from html import escape
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIStatusError, Llama4Error
from llama4sdk.remote.redaction import conceal
from tests.remote.conftest import hides
from tests.remote.small import KEY

SECRETS = st.text(min_size=4, max_size=20).filter(lambda secret: secret not in "[hidden] Hint: Call . APIStatusError")


def chain(*errors: BaseException) -> BaseException:
    """The first, caused by the second, and so on."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@given(SECRETS, st.sampled_from([str, quote, quote_plus, escape, json.dumps, repr]))
def test_nothing_is_left(secret: str, form: type[str]) -> None:
    """In no field, argument or cause, in whatever form."""
    error = APIStatusError(f"bad {form(secret)}", hint=f"not {form(secret)}", request_id=form(secret), status=400)
    chain(error, ValueError("harmless"), KeyError(form(secret)), OSError("deeper"))
    conceal(error, [secret])
    shown = [error.message, str(error), repr(error), error.hint or "", error.request_id or ""]
    link: BaseException | None = error
    while link is not None:
        shown.append(str(link))
        link = link.__cause__
    left = [text.replace("[hidden]", "") for text in shown]
    bare = form(secret)[1:-1] if form in (repr, json.dumps) else form(secret)
    assert not any(secret in text or bare in text for text in left)


def test_a_secret_that_is_no_text_is_hidden_too() -> None:
    """A variable of other bytes than UTF-8's is read with halves of characters in it."""
    error = Llama4Error("bad \udcff\udcfe-key", hint="so")
    conceal(error, ["\udcff\udcfe-key"])
    assert error.message == "bad [hidden]"


def test_a_cause_that_shows_it_is_cut_off() -> None:
    """With what caused that; causes that show nothing stay."""
    error = Llama4Error("why", hint="so")
    chain(error, ValueError("harmless"), UnicodeEncodeError("ascii", f"{KEY}é", 26, 27, "no"), OSError("deeper"))
    conceal(error, [KEY])
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.__cause__ is None
    hides(error)


def test_causes_in_a_circle() -> None:
    """End the search."""
    error, cause = Llama4Error("why", hint="so"), ValueError("because")
    error.__cause__, cause.__context__ = cause, error
    conceal(error, [KEY])
    assert error.__cause__ is cause


def test_short_ones_are_left_alone() -> None:
    """Hiding every "a" would only garble the words."""
    error = Llama4Error("a message")
    conceal(error, ["a", "", "es"])
    assert error.message == "a message"


@pytest.mark.parametrize(
    "shown", [repr, str, lambda endpoint: endpoint.model_dump_json(), lambda e: str(e.model_dump())]
)
def test_an_endpoint_shows_no_key(shown: object) -> None:
    """Nor its headers, in any form it is written in; pickled it is whole, for another process."""
    endpoint = Endpoint.model_validate({"url": "http://x", "api_key": KEY, "headers": {"x-team": f"team-{KEY}"}})
    assert callable(shown)
    assert KEY not in shown(endpoint)
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


@pytest.mark.parametrize("url", [f"http://me:{KEY}@x", f"http://{KEY}@x", f"http://x?key={KEY}", f"ftp://x/{KEY}"])
def test_an_address_that_is_refused_is_not_repeated(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(ValueError, match="endpoint") as caught:
        Endpoint(url=url)
    assert KEY not in str(caught.value)
