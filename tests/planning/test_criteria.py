"""One order of preference: whoever ranks the same options, the best is the same."""

from __future__ import annotations

from typing import NamedTuple, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.backend import Need, Offer
from llama4sdk.capacity.candidates import Candidate, rank
from llama4sdk.capacity.device_room import DeviceRoom
from llama4sdk.capacity.engine_profiles import LayoutKind
from llama4sdk.capacity.layout import DeviceShare, Layout
from llama4sdk.capacity.ranking import CRITERIA, MIN_TOKENS_PER_SECOND, Option, deciding_criterion, rank_key
from llama4sdk.capacity.roofline import Interval
from llama4sdk.diagnostics.runnable import _first_choice
from llama4sdk.local.offer import Setup
from llama4sdk.plan import Placement, Preference
from llama4sdk.planning import criteria
from llama4sdk.planning.criteria import Bid
from llama4sdk.quantization import Quantization
from llama4sdk.testing.machines import H100_X8

PREFERENCES: tuple[Preference, ...] = get_args(Preference)
GIB = 2**30


class Way(NamedTuple):
    """One way to run Scout, which every part of the SDK describes in its own terms."""

    kind: LayoutKind
    precision: Quantization
    speed: float
    context: int

    @property
    def bid(self) -> Bid:
        """An offer to the planner."""
        devices = ("cpu",) if self.kind == "cpu" else ("cuda:0",)
        placement = Placement(kind="offload" if self.kind == "offload" else "local", devices=devices)
        offer = Offer(
            model="scout",
            placement=placement,
            quantization=self.precision,
            context_length=self.context,
            tokens_per_second=self.speed,
            reason="it fits",
        )
        return Bid("torch", Need(model="scout"), offer)

    @property
    def candidate(self) -> Candidate:
        """A row of a comparison, or of the doctor's table."""
        device = "cpu" if self.kind == "cpu" else "cuda:0"
        share = DeviceShare(device=device, weights={}, kv=0, workspace=0, runtime=0, room=GIB)
        layout = Layout(
            model="scout",
            engine="torch",
            kind=self.kind,
            precision=self.precision,
            shares=(share,),
            context=self.context,
            window=10**7,
            support=("native", "a test"),
        )
        decode = Interval(low=self.speed, high=2 * self.speed)
        return Candidate(layout=layout, decode=decode, prefill=None, label="modelled")


ways = st.builds(
    Way,
    kind=st.sampled_from(["single", "offload", "cpu"]),
    precision=st.sampled_from([Quantization.BF16, Quantization.INT8, Quantization.INT4]),
    speed=st.sampled_from([0.1, 0.5, 2.0, 2.1, 9.0, 40.0]),
    context=st.sampled_from([512, 8192, 100_000]),
)


@given(several=st.lists(ways, min_size=1, max_size=6), prefer=st.sampled_from(PREFERENCES))
def test_the_planner_and_a_comparison_agree(several: list[Way], prefer: Preference) -> None:
    """Offers and rows with the same facts are in the same order, by every preference."""
    bids = criteria.rank([way.bid for way in several], prefer)
    rows = rank([way.candidate for way in several], prefer)
    assert [rank_key(criteria.option_of(bid), prefer)[:-1] for bid in bids] == [
        rank_key(row.option, prefer)[:-1] for row in rows
    ]


@given(several=st.lists(ways, min_size=1, max_size=6))
def test_the_doctor_shows_what_a_plan_would_be(several: list[Way]) -> None:
    """Its first choice is the best bid, where no engine is installed or all are."""
    rows = [way.candidate for way in several]
    best = criteria.option_of(criteria.rank([way.bid for way in several], "balanced")[0])
    for installed in ((), ("torch",)):
        shown = _first_choice(rows, installed).option
        assert rank_key(shown, "balanced")[:-1] == rank_key(best, "balanced")[:-1]


@given(first=ways, second=ways, prefer=st.sampled_from(PREFERENCES))
def test_an_engine_orders_its_own_ways_as_the_planner_orders_offers(
    first: Way, second: Way, prefer: Preference
) -> None:
    """Where speeds are not known yet, and both have the usual context, the same of two ways is better."""
    device = H100_X8.devices[0]
    bids, setups = [], []
    for way in (first, second):
        on_cpu = way.kind == "cpu"
        room = DeviceRoom(
            device="cpu" if on_cpu else device.id, free=GIB, usable=GIB, accelerator=None if on_cpu else device
        )
        setups.append(Setup(way.precision, room, 8192).option(prefer))
        bids.append(way._replace(kind="cpu" if on_cpu else "single", context=8192, speed=MIN_TOKENS_PER_SECOND).bid)
    options = [criteria.option_of(bid) for bid in bids]
    assert _compare(setups[0], setups[1], prefer) == _compare(options[0], options[1], prefer)


@given(first=ways, second=ways, prefer=st.sampled_from(PREFERENCES))
def test_the_deciding_criterion_is_the_first_that_differs(first: Way, second: Way, prefer: Preference) -> None:
    """Its reason is the winner's advantage; equals have none."""
    better, worse = sorted((first.candidate.option, second.candidate.option), key=lambda o: rank_key(o, prefer))
    criterion = deciding_criterion(better, worse, prefer)
    assert (criterion is None) == (rank_key(better, prefer) == rank_key(worse, prefer))
    if criterion is not None:
        assert criterion.key(better) < criterion.key(worse)  # type: ignore[operator]  # numbers, or names


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_every_criterion_has_a_reason(prefer: Preference) -> None:
    """A clause that a plan can end with."""
    assert all(criterion.reason.startswith(("it ", "its ")) for criterion in CRITERIA[prefer])


def _compare(first: Option, second: Option, prefer: Preference) -> int:
    """-1, 0 or 1, as the first is better, as good or worse."""
    keys = rank_key(first, prefer), rank_key(second, prefer)
    return (keys[0] > keys[1]) - (keys[0] < keys[1])
