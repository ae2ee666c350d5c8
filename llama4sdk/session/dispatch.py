"""One request under way: an engine for it, then its answer, from the first place that gives one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

from llama4sdk.errors import APITimeoutError, BackendError, ConfigurationError, Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, Usage
from llama4sdk.session.failover import Failover
from llama4sdk.streams import Origin

if TYPE_CHECKING:
    from llama4sdk.backend import Engine
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Policy
    from llama4sdk.requests import Request
    from llama4sdk.session.budget import Budget, Reservation
    from llama4sdk.session.deployment import Deployment
    from llama4sdk.session.pricing import Price

__all__ = ["Choice", "Dispatch", "Errand", "Load"]

T = TypeVar("T")

logger = logging.getLogger("llama4sdk")

UNPRICED: Final = (
    "Say what you pay: Policy(rates={'%s': (dollars a million tokens of prompt, of answer)}), (0, 0) for a server of "
    "your own. Or leave max_cost out."
)


Hosts: TypeAlias = "Callable[[int, str | None], Deployment]"
"""Gives the host of a place, by its number, for a model; ``None`` is the client's own."""


class Load(NamedTuple):
    """Tokens at most: of the prompt, and of the answer where a limit was set."""

    prompt: int
    answer: int | None


class Choice(NamedTuple):
    """Which model is asked, ``None`` for the client's own, and why where it was chosen."""

    model: str | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand:
    """What a trip is for."""

    doing: str
    """In a word, for errors."""
    check: Callable[[Plan], None]
    """Raises for a plan that cannot do it."""
    load: Callable[[], Load] | None
    """What is billed at most; ``None`` for what no endpoint bills."""
    choose: Callable[[], Choice] | Choice
    """A function where it takes planning to know."""


class Dispatch:
    """``prepare`` it, then read its ``events`` once; or let ``whole`` do one piece of work."""

    def __init__(self, errand: Errand, hosts: Hosts, policy: Policy, budget: Budget) -> None:
        self.origin = Origin("", "")
        self.walk = Failover(1 + len(policy.fallback))
        self._errand = errand
        self._hosts = hosts
        self._policy = policy
        self._budget = budget
        self._choice: Choice | None = None if callable(errand.choose) else errand.choose
        self._host: Deployment | None = None
        self._plan: Plan | None = None
        self._engine: Engine | None = None
        self._terms: Price | None = None
        self._hold: Reservation | None = None

    @property
    def quick(self) -> bool:
        """Whether ``prepare`` has nothing slow to do."""
        return self._choice is not None and self._hosts(self.walk.place, self._choice.model).loaded

    def prepare(self) -> None:
        """Have an engine at this place, or at the first of the next ones. Raises what stands in the way."""
        choose = self._errand.choose
        if self._choice is None and callable(choose):
            self._choice = choose()
            self.origin.route = self._choice.reason
        while True:
            try:
                self._arrive(self._hosts(self.walk.place, self._choice.model if self._choice else None))
                return
            except Llama4Error as error:
                self._move_on(error)

    def events(self, request: Request) -> Iterator[Event]:
        """The answer of the first place that begins to give one."""
        while True:
            try:
                source = self._ask().stream(request)
                try:
                    for event in source:
                        yield self._seen(event)
                finally:
                    close = getattr(source, "close", None)
                    if close is not None:
                        close()
                self._ended()
                return
            except Exception as error:  # noqa: BLE001 - a stranger's exception is a BackendError from here on
                self._failed(error)
            finally:
                self._left()
            self.prepare()

    async def aevents(self, request: Request) -> AsyncIterator[Event]:
        """The same for asyncio: awaited where the engine is asynchronous, else in a thread."""
        import asyncio

        from llama4sdk.session.async_bridge import bridge

        while True:
            try:
                engine = self._ask()
                source = engine.astream(request) if self._native else bridge(lambda: engine.stream(request))  # noqa: B023
                try:
                    async for event in source:
                        yield self._seen(event)
                finally:
                    aclose = getattr(source, "aclose", None)
                    if aclose is not None:
                        await aclose()
                self._ended()
                return
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(error)
            finally:
                self._left()
            if self.quick:
                self.prepare()
            else:
                await asyncio.to_thread(self.prepare)

    def whole(self, work: Callable[[Engine], T], usage: Callable[[T], Usage] | None = None) -> tuple[T, Usage]:
        """What one call gives at the first place where it does not fail, and what that took."""
        while True:
            self.prepare()
            try:
                done = work(self._ask())
                return done, self._settled(usage(done) if usage else Usage(), 0.0)
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(error)
            finally:
                self._left()

    @property
    def _native(self) -> bool:
        return self._plan is not None and "astream" in self._plan.capabilities.features

    def _arrive(self, host: Deployment) -> None:
        self.walk.arrived(*host.named)
        plan = host.plan()
        self.walk.arrived(plan.backend, plan.model)
        self._errand.check(plan)
        self._terms = self._terms_at(plan)
        self._host, self._engine, self._plan = host, host.engine(), host.plan()  # loading may have made another
        self.origin.model, self.origin.backend = self._plan.model, self._plan.backend

    def _terms_at(self, plan: Plan) -> Price | None:
        """What is charged there, which a budget must know."""
        if plan.placement.kind != "remote" or self._errand.load is None:
            return None
        from llama4sdk.session.pricing import terms_of

        terms = terms_of(plan, self._policy)
        if terms is None and self._policy.max_cost is not None:
            raise ConfigurationError(
                f"What '{plan.model}' costs on '{plan.backend}' is not known, so that max_cost cannot be kept.",
                hint=UNPRICED % plan.backend,
            )
        return terms

    def _ask(self) -> Engine:
        """The engine, once what it may cost is held."""
        assert self._engine is not None  # noqa: S101 - prepared before
        if self._terms is not None:
            self._hold = self._held(self._terms)
        self.walk.ask()
        return self._engine

    def _held(self, terms: Price) -> Reservation:
        assert self._plan is not None and self._host is not None and self._errand.load is not None  # noqa: S101, PT018
        if self._budget.limit is None:
            return self._budget.hold(0.0)
        prompt, answer = self._errand.load()
        room = self._plan.context_length
        limits = [limit for limit in (answer, terms.output_limit, room) if limit is not None]
        tries = self._host.paid_tries
        fixed, rate = tries * terms.cost(min(prompt, room), 0), tries * terms.cost(0, 1)
        return self._budget.hold(fixed + rate * min(limits), fixed=fixed, rate=rate)

    def _seen(self, event: Event) -> Event:
        self.walk.answer()
        if type(event) is not Finish:
            return event
        finish = self.walk.finished(event)
        lost = sum((attempt.error or "").startswith(APITimeoutError.__name__) for attempt in event.attempts)
        share = self._hold.most / self._host.paid_tries if self._hold and self._host else 0.0
        usage = self._settled(event.usage, lost * share)
        return finish if usage is event.usage else finish.model_copy(update={"usage": usage})

    def _ended(self) -> None:
        """Nothing at all is no answer; that half an answer is none either, the stream will say."""
        if not self.walk.answered:
            raise StreamInterruptedError(
                f"The stream from '{self.origin.backend}' ended without its finish marker.", hint="Ask again."
            )

    def _settled(self, usage: Usage, lost: float) -> Usage:
        """The usage with what it cost, which is no longer held but spent; ``lost`` was paid for answers nobody saw."""
        hold, terms = self._hold, self._terms
        if hold is None or terms is None:
            self._budget.hold(0.0).settle(usage.cost or 0.0)
            return usage
        stated = usage.cost if self.origin.backend not in self._policy.rates else None
        cost = terms.bill(usage) if stated is None else stated
        hold.settle(hold.most if cost is None else cost + lost)
        return usage if cost == usage.cost else usage.model_copy(update={"cost": cost})

    def _failed(self, error: Exception) -> None:
        """Go on to the next place. Raises where there is none that could help."""
        if not isinstance(error, Llama4Error):
            cause = f"{type(error).__name__}: {error}"
            stranger = error
            error = BackendError(f"Backend '{self.origin.backend}' failed while {self._errand.doing}: {cause}.")
            error.__cause__ = stranger
        if self._hold is not None and not self.walk.answered:
            late = isinstance(error, APITimeoutError) and error.phase != "connect"
            self._hold.settle(self._hold.most if late else 0.0)
        self._move_on(error)

    def _move_on(self, error: Llama4Error) -> None:
        backend = self.walk.where[0]
        self.walk.failed(error)
        place = self._policy.places[self.walk.place - 1]
        logger.warning("'%s' failed (%s) Asking '%s' instead.", backend, error.message, place.backend)

    def _left(self) -> None:
        """What broke off or was left may cost as much as it could: nobody will say."""
        if self._hold is not None:
            self._hold.settle(self._hold.most)
            self._hold = None
