"""One request on its way to an engine: the first of several deployments that begins to answer it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from llama4sdk.errors import Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish
from llama4sdk.session.deployment import backend_errors
from llama4sdk.session.failover import Failover
from llama4sdk.session.preflight import check_request
from llama4sdk.streams import Origin, aclosing_events, closing_events

if TYPE_CHECKING:
    from llama4sdk.backend import Engine
    from llama4sdk.capabilities import Feature
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Policy
    from llama4sdk.requests import EmbedRequest, Request
    from llama4sdk.results import Embeddings
    from llama4sdk.session.billing import CostMeter
    from llama4sdk.session.budget import Budget
    from llama4sdk.session.deployment import Deployment

R = TypeVar("R", "Request", "EmbedRequest")
T = TypeVar("T")

logger = logging.getLogger("llama4sdk")


class Dispatch:
    """Sends one request to the first deployment, and to the next ones as long as they fail before they answer.

    ``prepare`` comes first, then ``events`` or ``aevents``, once; ``embed`` and ``count_tokens`` prepare by themselves.
    ``origin`` names the model and backend in use.
    """

    def __init__(
        self,
        deployments: Sequence[Deployment],
        feature: Feature,
        policy: Policy,
        budget: Budget,
        *,
        route: str | None = None,
    ) -> None:
        """``route`` is the reason for the model, where it was chosen for this request."""
        self.origin = Origin("", "", route)
        self._deployments = deployments
        self._feature = feature
        self._policy = policy
        self._budget = budget
        self._failover = Failover(len(deployments))
        self._engine: Engine
        self._meter: CostMeter | None = None
        self._is_async = False

    def prepare(self, request: Request | EmbedRequest) -> None:
        """Check the request against the plan and load the engine, at the next deployments where that fails.

        Raises an error of the first deployment where all fail, or where no other could help.
        """
        while True:
            deployment = self._deployments[self._failover.index]
            try:
                plan = deployment.plan()
                check_request(request, self._feature, plan)
                self._meter = self._cost_meter(plan, request, deployment.max_billed_attempts)
                plan, self._engine = deployment.load()
                self.origin.model, self.origin.backend = plan.model, plan.backend
                self._is_async = "astream" in plan.capabilities.features
                return
            except Llama4Error as error:
                self._fail_over(error)

    def events(self, request: Request) -> Iterator[Event]:
        """The answer of the first deployment that begins to give one."""
        while True:
            try:
                with backend_errors(self.origin.backend, "answering"), closing_events(self._start(request)) as events:
                    for event in events:
                        yield self._record(event)
                    self._require_answer()
                return
            except Llama4Error as error:
                self._fail_over(error)
            self.prepare(request)

    async def aevents(self, request: Request) -> AsyncIterator[Event]:
        """The same, awaited where the engine is asynchronous and otherwise read in a thread."""
        from llama4sdk.remote.calling_loop import run_in_thread

        while True:
            try:
                with backend_errors(self.origin.backend, "answering"):
                    async with aclosing_events(self._astart(request)) as events:
                        async for event in events:
                            yield self._record(event)
                    self._require_answer()
                return
            except Llama4Error as error:
                self._fail_over(error)
            if self._deployments[self._failover.index].loaded:
                self.prepare(request)
            else:
                await run_in_thread(self.prepare, request)

    def embed(self, request: EmbedRequest) -> Embeddings:
        """The vectors of the first deployment that gives them, with their cost and all attempts."""
        embeddings = self._call(request, self._embed, "embedding")
        attempts = self._failover.attempts(embeddings.attempts, self.origin.backend, self.origin.model)
        return embeddings.model_copy(update={"attempts": attempts})

    def count_tokens(self, request: Request) -> int:
        """The count of the first deployment that gives one."""
        return self._call(request, self._count_tokens, "counting tokens")

    def _call(self, request: R, work: Callable[[R], T], activity: str) -> T:
        while True:
            self.prepare(request)
            try:
                with backend_errors(self.origin.backend, activity):
                    return work(request)
            except Llama4Error as error:
                self._fail_over(error)

    def _cost_meter(self, plan: Plan, request: Request | EmbedRequest, max_billed_attempts: int) -> CostMeter | None:
        """A meter where the request is billed: not on this machine, and not for counting tokens."""
        if plan.placement.kind != "remote" or self._feature == "count_tokens":
            return None
        from llama4sdk.session.billing import cost_meter

        return cost_meter(plan, request, self._policy, self._budget, max_billed_attempts=max_billed_attempts)

    def _start(self, request: Request) -> Iterator[Event]:
        def start() -> Iterator[Event]:
            self._failover.mark_sent()
            return self._engine.stream(request)

        return start() if self._meter is None else self._meter.stream(start)

    def _astart(self, request: Request) -> AsyncIterator[Event]:
        def start() -> AsyncIterator[Event]:
            self._failover.mark_sent()
            if self._is_async:
                return self._engine.astream(request)
            from llama4sdk.session.async_bridge import bridge

            return bridge(partial(self._engine.stream, request))

        return start() if self._meter is None else self._meter.astream(start)

    def _embed(self, request: EmbedRequest) -> Embeddings:
        def start() -> Embeddings:
            self._failover.mark_sent()
            return self._engine.embed(request)

        return start() if self._meter is None else self._meter.embed(start)

    def _count_tokens(self, request: Request) -> int:
        self._failover.mark_sent()
        return self._engine.count_tokens(request)

    def _record(self, event: Event) -> Event:
        """Note that the answer has begun; add the failed attempts before it to its last event."""
        if not self._failover.answered:
            self._failover.mark_answered()
        if type(event) is not Finish:
            return event
        attempts = self._failover.attempts(event.attempts, self.origin.backend, self.origin.model)
        return event if attempts is event.attempts else event.model_copy(update={"attempts": attempts})

    def _require_answer(self) -> None:
        """Raise StreamInterruptedError for a stream without any event; one without ``Finish`` is for its reader."""
        if not self._failover.answered:
            raise StreamInterruptedError(
                f"The stream from '{self.origin.backend}' ended without its finish marker.", hint="Ask again."
            )

    def _fail_over(self, error: Llama4Error) -> None:
        """Go on to the next deployment. Raises where there is none, or where none could help."""
        backend, model = self._deployments[self._failover.index].names
        self._failover.fail(error, backend, model)
        fallback, _ = self._deployments[self._failover.index].names
        logger.warning("'%s' failed (%s) Asking '%s' instead.", backend, error.message, fallback)
