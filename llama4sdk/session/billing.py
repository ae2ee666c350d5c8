"""The cost of one request at one endpoint: reserved before it is sent, settled when its answer ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from llama4sdk.errors import APITimeoutError, ConfigurationError
from llama4sdk.events import Attempt, Event, Finish, Usage
from llama4sdk.plan import Plan
from llama4sdk.planning.policy import Policy
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings
from llama4sdk.session.budget import Budget, Reservation
from llama4sdk.session.pricing import price_of
from llama4sdk.session.token_bounds import max_prompt_tokens
from llama4sdk.streams import aclosing_events, closing_events

UNKNOWN_PRICE_HINT: Final = (
    "Say what you pay: Policy(rates={'%s': (dollars a million tokens of prompt, of answer)}), (0, 0) for a server of "
    "your own. Or leave max_cost out."
)


class CostMeter:
    """Reserves the most that one request may cost, and settles its actual cost.

    Each method raises BudgetExceededError where the budget does not suffice, before anything is sent. An answer that
    broke off or was left, or whose endpoint reports no usage, counts as the most it may have cost. A request that
    failed before its first event costs nothing, unless it timed out after it was sent.
    """

    def __init__(
        self, plan: Plan, request: Request | EmbedRequest, policy: Policy, budget: Budget, *, max_billed_attempts: int
    ) -> None:
        """``max_billed_attempts`` is how many answers the endpoint may make, and bill, for this request.

        Raises ConfigurationError where the cost is limited and the price is not known.
        """
        self._budget = budget
        self._price = price_of(plan, policy)
        self._request = request
        self._context_length = plan.context_length
        self._max_billed_attempts = max_billed_attempts
        self._answered = False
        self._reservation: Reservation
        if self._price is None and budget.limit is not None:
            raise ConfigurationError(
                f"What '{plan.model}' costs on '{plan.backend}' is not known, so that max_cost cannot be kept.",
                hint=UNKNOWN_PRICE_HINT % plan.backend,
            )

    def __enter__(self) -> Self:
        self._reservation = self._reserve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failed = error is None or (isinstance(error, Exception) and not _may_be_billed(error))
        self._reservation.settle(0.0 if failed and not self._answered else self._reservation.amount)

    def stream(self, start: Callable[[], Iterator[Event]]) -> Iterator[Event]:
        """The events of a stream that is started once its cost is reserved; its last event has the cost."""
        with self, closing_events(start()) as events:
            for event in events:
                yield self._read(event)

    async def astream(self, start: Callable[[], AsyncIterator[Event]]) -> AsyncIterator[Event]:
        """The same for an asynchronous stream."""
        with self:
            async with aclosing_events(start()) as events:
                async for event in events:
                    yield self._read(event)

    def embed(self, start: Callable[[], Embeddings]) -> Embeddings:
        """Embeddings that are computed once their cost is reserved, with the cost in their usage."""
        with self:
            embeddings = start()
            return embeddings.model_copy(update={"usage": self._bill(embeddings.usage, embeddings.attempts)})

    def _read(self, event: Event) -> Event:
        self._answered = True
        if type(event) is not Finish:
            return event
        usage = self._bill(event.usage, event.attempts)
        return event if usage is event.usage else event.model_copy(update={"usage": usage})

    def _bill(self, usage: Usage, attempts: Sequence[Attempt]) -> Usage:
        """Settle a whole answer; each of its attempts that timed out counts as the most that it may have cost."""
        cost = self._price.bill(usage) if self._price else usage.cost
        timeouts = sum((attempt.error or "").startswith(APITimeoutError.__name__) for attempt in attempts)
        lost = timeouts * self._reservation.amount / self._max_billed_attempts
        self._reservation.settle(self._reservation.amount if cost is None else cost + lost)
        return usage if cost == usage.cost else usage.model_copy(update={"cost": cost})

    def _reserve(self) -> Reservation:
        price, context = self._price, self._context_length
        if price is None or self._budget.limit is None:
            return self._budget.reserve(0.0)
        longest = self._request.sampling.max_tokens if isinstance(self._request, Request) else 0
        limits = [longest, price.output_limit, context]
        answer_tokens = min(limit for limit in limits if limit is not None)
        prompt_tokens = min(max_prompt_tokens(self._request), context)
        prompt_cost = self._max_billed_attempts * price.cost(prompt_tokens, 0)
        token_cost = self._max_billed_attempts * price.cost(0, 1)
        amount = prompt_cost + token_cost * answer_tokens
        return self._budget.reserve(amount, prompt_cost=prompt_cost, token_cost=token_cost)


def _may_be_billed(error: Exception) -> bool:
    """Whether the endpoint may have made an answer that arrived too late."""
    return isinstance(error, APITimeoutError) and error.phase != "connect"
