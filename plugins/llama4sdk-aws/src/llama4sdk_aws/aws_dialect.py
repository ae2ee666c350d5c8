"""The base of the dialects of AWS' services: credentials, errors, remedies."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import Llama4Error
from llama4sdk.plan import Plan
from llama4sdk.remote.dialect import Call, Dialect, Head
from llama4sdk_aws.authorizers import Authorizer
from llama4sdk_aws.aws_errors import ErrorReport, find_remedy, make_error, parse_answer


class AwsDialect(Dialect):
    """One model of one service."""

    def __init__(self, backend: str, plan: Plan, authorizer: Authorizer, endpoint: Endpoint) -> None:
        self.backend = backend
        self.model = plan.model
        self._context_length = plan.context_length
        self._authorizer = authorizer
        self._headers = {name: value.get_secret_value() for name, value in endpoint.headers.items()}

    @property
    def authorize_blocks(self) -> bool:
        """Whether credentials must be found or renewed."""
        return self._authorizer.authorize_blocks

    def authorize(self, call: Call) -> Call:
        """Put credentials on the call, before each attempt."""
        return self._authorizer.authorize(call)

    def secrets(self) -> Sequence[str]:
        """Return keys, tokens, and the values of the caller's own headers."""
        return (*self._authorizer.secrets(), *self._headers.values())

    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        """Return the error of an answer with a status other than 2xx."""
        error = self.to_error(parse_answer(head, body, now=time.time()))
        if find_remedy(error) == "clock" and self._authorizer.set_clock(head):
            error.hint = "This machine's clock differs from AWS': set it."
        return error

    def to_error(self, report: ErrorReport) -> Llama4Error:
        """Return the SDK's error of a report."""
        return make_error(report, backend=self.backend, model=self.model, context_length=self._context_length)

    def remedy(self, error: Llama4Error) -> str | None:
        """Name what may help: other credentials, or AWS' time of day."""
        name = find_remedy(error)
        if name == "credentials":
            return name if self._authorizer.forget() else None
        return name if name == "clock" else None

    def call(self, url: str, body: bytes, headers: Mapping[str, str]) -> Call:
        """Build a POST with these headers and the caller's own."""
        return Call("POST", url, {"Content-Type": "application/json", **headers, **self._headers}, body)
