"""How a SageMaker endpoint is spoken to."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, Llama4Error, PermissionDeniedError
from llama4sdk.remote import status_errors
from llama4sdk.remote.dialect import Call, Head, Reader
from llama4sdk.requests import Request
from llama4sdk_aws import failures
from llama4sdk_aws.authority import Authority
from llama4sdk_aws.container_requests import payload
from llama4sdk_aws.container_stream import ContainerReader
from llama4sdk_aws.dialect import AwsDialect
from llama4sdk_aws.options import SageMakerOptions

__all__ = ["SageMakerDialect"]

PREFIX: Final = "X-Amzn-SageMaker-"


class SageMakerDialect(AwsDialect):
    """One endpoint; everything is streamed, since whole answers must be done within a minute."""

    def __init__(
        self,
        url: str,
        model: str,
        context: int,
        authority: Authority,
        endpoint: Endpoint,
        options: SageMakerOptions,
    ) -> None:
        super().__init__("sagemaker", model, context, authority, endpoint)
        name = quote(options.endpoint_name or model, safe="")
        self._url = f"{url}/endpoints/{name}/invocations-response-stream"
        self._dialect = options.dialect
        headers = {
            "Accept": "application/json",
            "Inference-Component": options.inference_component,
            "Target-Variant": options.target_variant,
            "Target-Model": options.target_model,
            "Custom-Attributes": options.custom_attributes,
            "Session-Id": options.session_id,
        }
        self._options = {f"{PREFIX}{name}": value for name, value in headers.items() if value}

    def ask(self, request: Request, tried: frozenset[str]) -> tuple[Call, Reader]:
        """The container's own body; SageMaker only carries it."""
        body = json.dumps(payload(request, self._dialect)).encode()
        return self.call(self._url, body, self._options), ContainerReader(
            self.backend, request.sampling.stop, self.judge, self._blame
        )

    def failure(self, head: Head, body: bytes) -> Llama4Error:
        """By the table of AWS' errors; what a container said, by the statuses of containers."""
        words = status_errors.said(body).body
        status, said = words.get("OriginalStatusCode"), words.get("OriginalMessage")
        if not isinstance(status, int):
            return super().failure(head, body)
        text = said if isinstance(said, str) and said else str(words.get("Message") or words.get("message") or "")
        error = self._blame(status, text.encode())
        if isinstance(error, APIError):
            error.request_id = head.request_id
        return error

    def judge(self, told: failures.Told) -> Llama4Error:
        """Of AWS' own errors."""
        error = super().judge(told)
        if isinstance(error, PermissionDeniedError):
            error.hint = "Allow sagemaker:InvokeEndpointWithResponseStream on the endpoint."
        return error

    def _blame(self, status: int, body: bytes) -> Llama4Error:
        """A container speaks no AWS: its statuses are those of any server, and its log explains them."""
        error = status_errors.failure(
            Head(status, {}), body, backend=self.backend, model=self.model, context=self._context, now=0.0
        )
        if isinstance(error, APIError):
            error.hint = f"{error.hint or ''} The container's log in CloudWatch says more.".lstrip()
        return error
