"""``llama4sdk models --remote``: who serves the models by the token, at which prices, and until when."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from datetime import date

from pydantic import JsonValue
from rich.console import RenderableType
from rich.text import Text

from llama4sdk.catalog.endpoint_tables import Listing
from llama4sdk.catalog.endpoint_tables import listings as all_listings
from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.views.number_format import format_dollars, format_tokens
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable, number_columns


def print_listings(models: Container[str], *, json: bool) -> None:
    """Print every listing of these models: first those that are still served and that a backend can use."""
    today = date.today()
    selected = [listing for listing in all_listings() if listing.model in models]
    selected.sort(key=lambda entry: (entry.model != "scout", entry.model, entry.ended(today), entry.backend is None))
    if json:
        print_json([_document(listing, today) for listing in selected])
    else:
        show(*_pieces(selected, today))


def _document(listing: Listing, today: date) -> dict[str, JsonValue]:
    status = {"state": listing.state(today), "ended": listing.ended(today), "old": listing.old(today)}
    return {**listing.model_dump(mode="json"), **status}


def _pieces(listings: Sequence[Listing], today: date) -> Iterator[RenderableType]:
    if not listings:
        yield Text("No endpoint is known that serves it.")
        return
    for model in dict.fromkeys(listing.model for listing in listings):
        yield Text(model, style="bold")
        yield _table([listing for listing in listings if listing.model == model], today)
        yield ""
    yield Text(
        "Dollars are for a million tokens of prompt and of answer, as of the day they were looked up.", style="dim"
    )
    yield Text("Without a backend, none of llama4sdk speaks to it. (?): nobody to quote.", style="dim")
    if any(listing.old(today) for listing in listings):
        yield Text("What was looked up more than 90 days ago is old: ask the endpoint.", style="yellow")


def _table(listings: Sequence[Listing], today: date) -> ResponsiveTable:
    columns = Column("endpoint"), Column("backend"), *number_columns("context", "$ in", "$ out"), Column("status")
    table = ResponsiveTable(*columns, Column("checked"))
    for listing in listings:
        doubt = " (?)" if listing.confidence == "unverified" else ""
        table.add_row(
            listing.endpoint,
            listing.backend or "",
            format_tokens(listing.context),
            format_dollars(listing.input),
            format_dollars(listing.output),
            f"{listing.state(today)}{doubt}",
            Text(str(listing.checked or ""), style="yellow" if listing.old(today) else ""),
            style="dim" if listing.ended(today) else "",
        )
    return table
