"""Prices in ``llama4sdk plan --compare``: endpoints and rented machines, each with the day it was looked up."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import date

from rich.console import RenderableType
from rich.text import Text

from llama4sdk.capacity.candidates import Candidate
from llama4sdk.catalog.accelerators import rent_of
from llama4sdk.catalog.endpoint_tables import Listing, listings
from llama4sdk.cli.views.number_format import format_dollars
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable, number_columns
from llama4sdk.hardware import Hardware


def priced_listings(models: Container[str], today: date) -> list[Listing]:
    """Endpoints that serve one of these models today at a known price, the cheapest first."""
    priced = [
        listing
        for listing in listings()
        if listing.model in models and listing.blended is not None and not listing.ended(today)
    ]
    return sorted(priced, key=lambda listing: (listing.model, listing.blended, listing.endpoint))


def endpoint_pieces(priced: Sequence[Listing], today: date, *, context: int | None) -> Iterator[RenderableType]:
    """A table of endpoints, and how current its numbers are."""
    if not priced:
        return
    yield Text("Remote endpoints: prompts leave this machine, and none is chosen unless that is allowed", style="bold")
    yield _table(priced, context)
    yield Text("Dollars are for a million tokens of prompt and of answer, as of the day they were seen.", style="dim")
    if not all(listing.current(today) for listing in priced):
        yield Text("That is too long ago to take them for today's: ask the endpoint.", style="yellow")


def describe_rents(
    machines: Mapping[str, Hardware], candidates: Mapping[str, Sequence[Candidate]]
) -> Iterator[RenderableType]:
    """For each machine that can be rented, dollars an hour and for a million tokens of its fastest answers."""
    for name, machine in machines.items():
        rent = rent_of(machine.devices)
        if rent is None:
            continue
        text = (
            f"{name}: renting it costs about ${rent.dollars_per_hour:.2f} an hour "
            f"({rent.source}, seen {rent.looked_up})"
        )
        speeds = [row.decode for row in candidates[name] if row.decode and row.layout.usable]
        if speeds:
            best = max(speeds, key=lambda speed: speed.middle)
            low, high = (rent.dollars_per_hour / 3600 / speed * 1e6 for speed in (best.high, best.low))
            text += f": ${low:.0f} to ${high:.0f} for a million tokens, one answer at a time"
        yield Text(f"{text}.", style="dim")


def _table(priced: Sequence[Listing], context: int | None) -> ResponsiveTable:
    numbers = number_columns("context", "tokens/s", "$ in", "$ out")
    table = ResponsiveTable(Column("model"), Column("endpoint"), *numbers, Column("seen"), Column(), prose=True)
    for listing in priced:
        too_short = bool(context and listing.context and listing.context < context)
        table.add_row(
            listing.model,
            listing.endpoint,
            f"{listing.context:,}" if listing.context else "?",
            f"{listing.tokens_per_second:.0f} ({listing.speed_seen})" if listing.tokens_per_second else "?",
            format_dollars(listing.input),
            format_dollars(listing.output),
            str(listing.checked or ""),
            "context too short" if too_short else f"ends {listing.ends}" if listing.ends else "",
            style="dim" if too_short else "",
        )
    return table
