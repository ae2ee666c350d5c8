"""Offers in the order of ``capacity.ranking``, with the reason why one is preferred to another. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from llama4sdk.backend import Need, Offer
from llama4sdk.capacity.ranking import FULL_BITS, MIN_TOKENS_PER_SECOND, Option, best_first, deciding_criterion
from llama4sdk.catalog.endpoints import find
from llama4sdk.plan import Preference
from llama4sdk.quantization import QuantizationConfig

EQUAL: Final = "it comes first"


class Bid(NamedTuple):
    """A backend's offer for a need."""

    backend: str
    need: Need
    offer: Offer


def rank(bids: Iterable[Bid], prefer: Preference) -> list[Bid]:
    """The bids, best first."""
    return best_first(bids, option_of, prefer)


def advantage(winner: Bid, loser: Bid) -> str:
    """Why the winner is preferred, as a clause."""
    criterion = deciding_criterion(option_of(winner), option_of(loser), winner.need.prefer)
    return criterion.reason if criterion else EQUAL


def option_of(bid: Bid) -> Option:
    """The facts that the rank of an offer depends on.

    An offer names the middle of the predicted speeds; one that names none is taken to be bearable.
    """
    offer, speed = bid.offer, bid.offer.tokens_per_second
    placement = offer.placement
    on_cpu = placement.devices == ("cpu",)
    return Option(
        location={"local": "cpu" if on_cpu else "accelerator", "offload": "offload", "remote": "remote"}[
            placement.kind
        ],
        bits=FULL_BITS if offer.quantization is None else QuantizationConfig.of(offer.quantization).narrowest.bits,
        speed=MIN_TOKENS_PER_SECOND if speed is None else speed,
        context=offer.context_length,
        dollars=_dollars(bid),
        backend=bid.backend,
    )


def _dollars(bid: Bid) -> float:
    """US dollars for a million tokens: nothing on this machine, infinity where no price is known."""
    offer = bid.offer
    if offer.placement.kind != "remote":
        return 0.0
    listings = [find(endpoint, offer.model) for endpoint in (bid.backend, *offer.placement.devices)]
    return min((known.blended for known in listings if known and known.blended is not None), default=math.inf)
