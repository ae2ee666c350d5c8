"""The order of preference: one list of criteria for offers, layouts, and the ways an engine could run a model. Pure.

The first criterion on which two options differ decides, and its reason says why. The order is what people who run such
models do by default: they do not go below four bits a weight for speed's sake, since what is lost there shows in the
answers; they leave the accelerators when that keeps four bits at a speed they can live with; and in the machine's
memory, where every byte costs time, they take four bits and no more. Speeds count by their cautious end: a guess, whose
interval is wide, does not win by its hopeful end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

from llama4sdk.capacity.contexts import USUAL_CONTEXT
from llama4sdk.plan import Preference

Location: TypeAlias = Literal["accelerator", "offload", "cpu", "disk", "remote"]
RankKey: TypeAlias = tuple[float | str, ...]

T = TypeVar("T")

#: Fewer bits a weight only where so many cannot be had at a bearable speed, or are asked for.
MIN_BITS: Final = 4

#: A bearable speed, by the cautious end; the middle of a usual interval is then the speed of speech.
MIN_TOKENS_PER_SECOND: Final = 1.5

#: The speed below which more bits are no excuse.
HOPELESS_TOKENS_PER_SECOND: Final = 0.3

#: Bits of a weight that is as good as published.
FULL_BITS: Final = 16

#: Bits at least, and the grade of the loss: none, nearly none, little, much, more. Within a grade speed decides.
LOSS_GRADES: Final = ((FULL_BITS, 0), (6, 1), (4, 2), (3, 3), (0, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to run a model, as far as its rank depends on it."""

    #: The memory that the weights lie in: ``offload`` is an accelerator's and the machine's, ``remote`` a provider's.
    location: Location
    #: Bits of a weight, nearly.
    bits: int = FULL_BITS
    #: Tokens per second by the cautious end of the prediction; an unknown speed is taken to be bearable.
    speed: float = MIN_TOKENS_PER_SECOND
    #: Tokens of one conversation.
    context: int
    #: Whether the weights leave too little of a device for a long conversation.
    crowded: bool = False
    #: Whether the speed is an analogy, and not computed from measurements of the engine.
    guessed: bool = False
    #: Whether the device calculates in the weights' format.
    native_format: bool = True
    devices: int = 1
    #: US dollars for a million tokens; infinity where no price is known.
    dollars: float = 0.0
    backend: str = ""

    @property
    def accelerated(self) -> bool:
        """Whether all weights lie in the memory of accelerators."""
        return self.location in ("accelerator", "remote")


class Criterion(NamedTuple):
    """One criterion. ``key`` is smallest for what is preferred; ``reason`` says why the winner won."""

    reason: str
    key: Callable[[Option], float | str]


def best_first(items: Iterable[T], option_of: Callable[[T], Option], prefer: Preference) -> list[T]:
    """The items by the criteria of a preference; equals stay in the order they came in."""
    return sorted(items, key=lambda item: rank_key(option_of(item), prefer))


def rank_key(option: Option, prefer: Preference) -> RankKey:
    """The option's place in the order of a preference; smaller is better."""
    return tuple(criterion.key(option) for criterion in CRITERIA[prefer])


def deciding_criterion(winner: Option, loser: Option, prefer: Preference) -> Criterion | None:
    """The first criterion on which two options differ; ``None`` for equals."""
    return next((c for c in CRITERIA[prefer] if c.key(winner) != c.key(loser)), None)


def _slowness(option: Option, bearable: float = MIN_TOKENS_PER_SECOND) -> int:
    """0 at a bearable speed, 2 at a hopeless one. From disk everything crawls, and fewer bits change nothing of it."""
    if option.location == "disk":
        return 0
    return 2 if option.speed < HOPELESS_TOKENS_PER_SECOND else 1 if option.speed < bearable else 0


def _loss(option: Option) -> int:
    """The grade of precision lost. None is counted at four bits and more where speed is what is short."""
    if not option.accelerated and option.bits >= MIN_BITS:
        return 0
    return next(grade for bits, grade in LOSS_GRADES if option.bits >= bits)


def _bits_worth_having(option: Option) -> int:
    """Bits of a weight, as far as they are no more than were published and the speed is not hopeless."""
    return 0 if option.speed < HOPELESS_TOKENS_PER_SECOND else min(option.bits, FULL_BITS)


def _pace(option: Option) -> float:
    """The speed; on accelerators in steps of two fifths, within which the speed is as good as the same."""
    if not option.accelerated or not option.speed:
        return option.speed
    return round(2 * math.log2(option.speed))


FULL_PRECISION: Final = "it keeps the weights' full precision"
MORE_PRECISION: Final = "it keeps more of the weights' precision"
FASTER: Final = "it is predicted to be faster"

_LOCAL: Final = Criterion("it runs on this machine", lambda o: o.location == "remote")
_CHEAPER: Final = Criterion("it costs less per token", lambda o: o.dollars)
_IN_MEMORY: Final = Criterion("it reads no weights from disk while it answers", lambda o: o.location == "disk")
_SPACIOUS: Final = Criterion("its context has room for a conversation", lambda o: o.context < USUAL_CONTEXT)
_BEARABLE: Final = Criterion("it is not too slow to talk to", _slowness)
_NOT_HOPELESS: Final = Criterion("it is not hopelessly slow", lambda o: _slowness(o, HOPELESS_TOKENS_PER_SECOND))
_FOUR_BITS: Final = Criterion(f"it keeps at least {MIN_BITS} bits a weight", lambda o: o.bits < MIN_BITS)
_ACCELERATED: Final = Criterion("it uses an accelerator", lambda o: o.location in ("cpu", "disk"))
_RESIDENT: Final = Criterion("it needs no offloading", lambda o: o.location in ("offload", "disk"))
_UNCROWDED: Final = Criterion("it leaves room for a long conversation", lambda o: o.crowded)
_LOSSLESS: Final = Criterion(FULL_PRECISION, lambda o: _loss(o) > 0)
_LESS_LOSS: Final = Criterion(MORE_PRECISION, _loss)
_ALL_BITS: Final = Criterion(FULL_PRECISION, lambda o: _bits_worth_having(o) < FULL_BITS)
_MOST_BITS: Final = Criterion(MORE_PRECISION, lambda o: -_bits_worth_having(o))
_FASTER: Final = Criterion(FASTER, lambda o: -_pace(o))
_SURE: Final = Criterion("its engine's speed was measured, not guessed", lambda o: o.guessed)
_MORE_BITS: Final = Criterion(MORE_PRECISION, lambda o: -o.bits)
_NATIVE: Final = Criterion("its device calculates in the weights' format", lambda o: not o.native_format)
_FASTEST: Final = Criterion(FASTER, lambda o: -o.speed)
_FEWER_DEVICES: Final = Criterion("it takes fewer devices", lambda o: o.devices)
_LONGER: Final = Criterion("its context is longer", lambda o: -o.context)
_NAMED: Final = Criterion("its name comes first", lambda o: o.backend)

_USABLE: Final = (_LOCAL, _IN_MEMORY, _SPACIOUS)
_PACE: Final = (_FASTER, _SURE, _MORE_BITS, _NATIVE, _FASTEST, _FEWER_DEVICES, _LONGER, _NAMED)
_LOCATION: Final = (_ACCELERATED, _RESIDENT)
_BALANCED: Final = (*_USABLE, _BEARABLE, _FOUR_BITS, *_LOCATION, _UNCROWDED, _LOSSLESS, _LESS_LOSS, *_PACE)

#: The criteria of each preference, first what counts most.
CRITERIA: Final[Mapping[Preference, tuple[Criterion, ...]]] = {
    "balanced": _BALANCED,
    "quality": (*_USABLE, _NOT_HOPELESS, _FOUR_BITS, _ALL_BITS, _MOST_BITS, *_LOCATION, *_PACE),
    "speed": (*_USABLE, _BEARABLE, _FOUR_BITS, _FASTEST, *_BALANCED),
    "context": (*_USABLE, _BEARABLE, _FOUR_BITS, _LONGER, *_BALANCED),
    "cost": (_CHEAPER, *_BALANCED),
}
