"""What ``llama4sdk plan --compare`` says of others' machines: endpoints and rents, each with the day it was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from datetime import date

    from rich.console import RenderableType
    from rich.table import Table

    from llama4sdk.capacity.candidates import Candidate
    from llama4sdk.catalog.endpoint_tables import Listing
    from llama4sdk.hardware import Hardware

__all__ = ["offered", "pieces", "rents"]


def offered(models: Container[str], today: date) -> list[Listing]:
    """Endpoints that serve one of these models at a known price, the cheapest first; those that ended are none."""
    from llama4sdk.catalog.endpoints import listings

    found = [one for one in listings() if one.model in models and one.blended is not None and not one.ended(today)]
    return sorted(found, key=lambda one: (one.model, one.blended, one.endpoint))


def pieces(found: Sequence[Listing], today: date, *, context: int | None) -> Iterator[RenderableType]:
    """A table, and what its numbers are worth."""
    from rich.text import Text

    if not found:
        return
    yield Text("Remote endpoints: prompts leave this machine, and none is chosen unless that is allowed", style="bold")
    yield _table(found, context)
    yield Text("Dollars are for a million tokens of prompt and of answer, as of the day they were seen.", style="dim")
    if not all(listing.current(today) for listing in found):
        yield Text("That is too long ago to take them for today's: ask the endpoint.", style="yellow")


def rents(
    machines: Mapping[str, Hardware | None], found: Mapping[str, Sequence[Candidate]]
) -> Iterator[RenderableType]:
    """What such machines cost an hour, and their fastest answers a million tokens, where that is known."""
    from rich.text import Text

    from llama4sdk.catalog.accelerators import RENTS, rent_of

    for name, machine in machines.items():
        hourly = rent_of(machine.devices) if machine else None
        if hourly is None:
            continue
        told = f"{name}: renting it costs about ${hourly:.2f} an hour ({RENTS[0].source}, seen {RENTS[0].seen})"
        speeds = [row.decode for row in found[name] if row.decode and row.layout.usable]
        if speeds:
            best = max(speeds, key=lambda speed: speed.middle)
            low, high = (hourly / 3600 / speed * 1e6 for speed in (best.high, best.low))
            told += f": ${low:.0f} to ${high:.0f} for a million tokens, one answer at a time"
        yield Text(f"{told}.", style="dim")


def _table(found: Sequence[Listing], context: int | None) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("model", "endpoint"):
        table.add_column(heading, no_wrap=True)
    for heading in ("context", "tokens/s", "$ in", "$ out"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("seen", no_wrap=True)
    table.add_column("", overflow="fold")
    for listing in found:
        short = bool(context and listing.context and listing.context < context)
        table.add_row(
            listing.model,
            listing.endpoint,
            f"{listing.context:,}" if listing.context else "?",
            f"{listing.tokens_per_second:.0f} ({listing.speed_seen})" if listing.tokens_per_second else "?",
            *("?" if dollars is None else f"{dollars:.2f}" for dollars in (listing.input, listing.output)),
            str(listing.checked or ""),
            "context too short" if short else f"ends {listing.ends}" if listing.ends else "",
            style="dim" if short else None,
        )
    return table
