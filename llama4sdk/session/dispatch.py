"""One request on its way to an engine: the first of several deployments that begins to answer it, and all attempts."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from llama4sdk import errors
from llama4sdk._text import error_text
from llama4sdk.errors import Llama4Error
from llama4sdk.events import Attempt, Event, Finish
from llama4sdk.session.deployment import backend_errors
from llama4sdk.session.validation import check_request
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

T = TypeVar("T")

logger = logging.getLogger("llama4sdk")

DEPLOYMENT_ERRORS: Final = (
    errors.APIConnectionError,
    errors.APITimeoutError,
    errors.OverloadedError,
    errors.RateLimitError,
    errors.ModelRetiredError,
    errors.NoBackendError,
    errors.BackendError,
    errors.DownloadError,
    errors.StreamInterruptedError,
)
CREDENTIAL_ERRORS: Final = (errors.AuthenticationError, errors.PermissionDeniedError)


def may_succeed_elsewhere(error: Llama4Error) -> bool:
    """Whether the deployment is at fault rather than the request. A wrong key is neither: it must be corrected."""
    if isinstance(error, errors.APIError) and not isinstance(error, CREDENTIAL_ERRORS):
        return isinstance(error, DEPLOYMENT_ERRORS) or error.retryable or (error.status or 0) >= 500
    return isinstance(error, DEPLOYMENT_ERRORS)


class Failover:
    """One request's position in a list of deployments, and the record of all attempts. Does no I/O.

    ``answered`` says that an answer has begun, after which no other deployment is asked.
    """

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        self.answered = False
        self._deployments = deployments
        self._index = 0
        self._failures: list[Attempt] = []
        self._first_error: Llama4Error | None = None
        self._first_failures = 0
        self._sent = False
        self._started = time.monotonic()
        self._ended: float | None = None

    @property
    def current(self) -> Deployment:
        """The deployment to ask."""
        return self._deployments[self._index]

    def mark_sent(self) -> None:
        """Record that the request is sent now."""
        self._sent, self._started = True, time.monotonic()

    def mark_answered(self) -> None:
        """Record that the answer begins now."""
        self.answered, self._ended = True, time.monotonic()

    def attempts(self, own: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """All attempts of a request that the current deployment answered, whose own attempts are ``own``."""
        return (*self._failures, *(own or (self._attempt(),))) if self._failures else own

    def fail(self, error: Llama4Error) -> None:
        """Move to the next deployment after this one failed. Raises where there is none, or where none would help.

        When every deployment has failed, the first one's error is raised.
        """
        self._failures += error.attempts or (self._attempt(error),)
        if self.answered or len(self._deployments) == 1:
            raise error
        if not self._may_continue(error):
            raise self._with_attempts(error) from error
        if self._first_error is None:
            self._first_error, self._first_failures = error, len(self._failures)
        if self.current is self._deployments[-1]:
            raise self._with_attempts(self._first_error) from self._first_error
        failed, _ = self.current.names
        self._index, self._sent, self._started = self._index + 1, False, time.monotonic()
        logger.warning("'%s' failed (%s) Asking '%s' instead.", failed, error.message, self.current.names[0])

    def _may_continue(self, error: Llama4Error) -> bool:
        """Whether to ask the next one; a fallback to which the request could not even be sent is passed over."""
        passed_over = self._index > 0 and not self._sent and not isinstance(error, errors.ClientClosedError)
        return passed_over or may_succeed_elsewhere(error)

    def _attempt(self, error: Llama4Error | None = None) -> Attempt:
        backend, model = self.current.names
        text = None if error is None else error_text(error)
        seconds = max(0.0, (self._ended or time.monotonic()) - self._started)
        return Attempt(backend=backend, model=model, error=text, seconds=seconds)

    def _with_attempts(self, error: Llama4Error) -> Llama4Error:
        """A copy of the error with all attempts, because a backend may raise one object several times."""
        copied = copy.copy(error)
        copied.attempts = tuple(self._failures)
        others = {f"'{attempt.backend}': {attempt.error}" for attempt in self._failures[self._first_failures :]}
        if others and error is self._first_error:
            failed = f"The fallbacks failed as well: {'; '.join(sorted(others))}"
            copied.hint = f"{error.hint} {failed}" if error.hint else failed
        return copied


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
        self._feature = feature
        self._policy = policy
        self._budget = budget
        self._failover = Failover(deployments)
        self._engine: Engine
        self._meter: CostMeter | None = None
        self._is_async = False

    def prepare(self, request: Request | EmbedRequest) -> None:
        """Check the request against the plan and load the engine, at the next deployments where that fails.

        Raises an error of the first deployment where all fail, or where no other could help.
        """
        while True:
            deployment = self._failover.current
            try:
                plan = deployment.plan()
                check_request(request, self._feature, plan)
                self._meter = self._cost_meter(plan, request)
                plan, self._engine = deployment.load()
                self.origin.model, self.origin.backend = plan.model, plan.backend
                self._is_async = "astream" in plan.capabilities.features
                return
            except Llama4Error as error:
                self._failover.fail(error)

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
                self._failover.fail(error)
            self.prepare(request)

    async def aevents(self, request: Request) -> AsyncIterator[Event]:
        """The same, awaited where the engine is asynchronous and otherwise read in a thread."""
        from llama4sdk.remote.loop_thread import run_in_thread

        while True:
            try:
                with backend_errors(self.origin.backend, "answering"):
                    async with aclosing_events(self._astart(request)) as events:
                        async for event in events:
                            yield self._record(event)
                    self._require_answer()
                return
            except Llama4Error as error:
                self._failover.fail(error)
            if self._failover.current.loaded:
                self.prepare(request)
            else:
                await run_in_thread(self.prepare, request)

    def embed(self, request: EmbedRequest) -> Embeddings:
        """The vectors of the first deployment that gives them, with their cost and all attempts."""
        embeddings = self._call(request, lambda: self._embed(request), "embedding")
        return embeddings.model_copy(update={"attempts": self._failover.attempts(embeddings.attempts)})

    def count_tokens(self, request: Request) -> int:
        """The count of the first deployment that gives one."""
        return self._call(request, lambda: self._send().count_tokens(request), "counting tokens")

    def _call(self, request: Request | EmbedRequest, work: Callable[[], T], activity: str) -> T:
        while True:
            self.prepare(request)
            try:
                with backend_errors(self.origin.backend, activity):
                    return work()
            except Llama4Error as error:
                self._failover.fail(error)

    def _cost_meter(self, plan: Plan, request: Request | EmbedRequest) -> CostMeter | None:
        """A meter where the request is billed: not on this machine, and not for counting tokens."""
        if plan.placement.kind != "remote" or self._feature == "count_tokens":
            return None
        from llama4sdk.session.billing import CostMeter

        attempts = self._failover.current.max_billed_attempts
        return CostMeter(plan, request, self._policy, self._budget, max_billed_attempts=attempts)

    def _send(self) -> Engine:
        """The engine, for a request that is sent now."""
        self._failover.mark_sent()
        return self._engine

    def _start(self, request: Request) -> Iterator[Event]:
        def start() -> Iterator[Event]:
            return self._send().stream(request)

        return start() if self._meter is None else self._meter.stream(start)

    def _astart(self, request: Request) -> AsyncIterator[Event]:
        def start() -> AsyncIterator[Event]:
            engine = self._send()
            if self._is_async:
                return engine.astream(request)
            from llama4sdk.session.async_bridge import bridge

            return bridge(partial(engine.stream, request))

        return start() if self._meter is None else self._meter.astream(start)

    def _embed(self, request: EmbedRequest) -> Embeddings:
        def start() -> Embeddings:
            return self._send().embed(request)

        return start() if self._meter is None else self._meter.embed(start)

    def _record(self, event: Event) -> Event:
        """Note that the answer has begun; add the failed attempts before it to its last event."""
        if not self._failover.answered:
            self._failover.mark_answered()
        if type(event) is not Finish:
            return event
        attempts = self._failover.attempts(event.attempts)
        return event if attempts is event.attempts else event.model_copy(update={"attempts": attempts})

    def _require_answer(self) -> None:
        """Raise StreamInterruptedError for a stream without any event; one without ``Finish`` is for its reader."""
        if not self._failover.answered:
            raise errors.StreamInterruptedError(
                f"The stream from '{self.origin.backend}' ended without its finish marker.", hint="Ask again."
            )
