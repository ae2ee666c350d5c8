"""What ``llama4sdk models --remote`` prints: who serves the models by the token, and for how much longer."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from llama4sdk.cli.console import print_json, show

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from pydantic import JsonValue
    from rich.console import RenderableType
    from rich.table import Table

    from llama4sdk.catalog.endpoint_tables import Listing

__all__ = ["listed"]


def listed(models: Container[str], *, json: bool) -> None:
    """Print every listing of these models: first those a backend speaks to and that have not ended."""
    from llama4sdk.catalog.endpoints import listings

    today = date.today()
    found = [listing for listing in listings() if listing.model in models]
    found.sort(key=lambda one: (one.model != "scout", one.model, one.ended(today), one.backend is None))
    if json:
        print_json([_described(listing, today) for listing in found])
    else:
        show(*_pieces(found, today))


def _described(listing: Listing, today: date) -> dict[str, JsonValue]:
    seen = {"state": listing.state(today), "ended": listing.ended(today), "old": listing.old(today)}
    return {**listing.model_dump(mode="json"), **seen}


def _pieces(found: Sequence[Listing], today: date) -> Iterator[RenderableType]:
    from rich.text import Text

    if not found:
        yield Text("No endpoint is known that serves it.")
        return
    for model in dict.fromkeys(listing.model for listing in found):
        yield Text(model, style="bold")
        yield _table([listing for listing in found if listing.model == model], today)
        yield ""
    yield Text(
        "Dollars are for a million tokens of prompt and of answer, as of the day they were looked up.", style="dim"
    )
    yield Text("Without a backend, none of llama4sdk speaks to it. (?): nobody to quote.", style="dim")
    if any(listing.old(today) for listing in found):
        yield Text("What was looked up more than 90 days ago is old: ask the endpoint.", style="yellow")


def _table(found: Sequence[Listing], today: date) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for heading in ("endpoint", "backend"):
        table.add_column(heading, no_wrap=True)
    for heading in ("context", "$ in", "$ out"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("status", "checked"):
        table.add_column(heading, no_wrap=True)
    for one in found:
        doubt = " (?)" if one.confidence == "unverified" else ""
        table.add_row(
            one.endpoint,
            one.backend or "",
            _tokens(one.context),
            *("?" if dollars is None else f"{dollars:.2f}" for dollars in (one.input, one.output)),
            f"{one.state(today)}{doubt}",
            f"[yellow]{one.checked}[/]" if one.old(today) else str(one.checked or ""),
            style="dim" if one.ended(today) else None,
        )
    return table


def _tokens(number: int | None) -> str:
    """Thousands and millions, which is how endpoints count them: ``131K``, ``2.2M``."""
    if number is None:
        return "?"
    return f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number // 1000}K"
