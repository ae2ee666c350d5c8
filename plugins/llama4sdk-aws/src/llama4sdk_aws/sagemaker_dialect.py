"""Calls of a SageMaker endpoint, which carries a container's own requests and answers."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, Llama4Error, PermissionDeniedError
from llama4sdk.plan import Plan
from llama4sdk.remote import status_errors
from llama4sdk.remote.dialect import Call, Head, Reader
from llama4sdk.remote.json_fields import encode_json
from llama4sdk.requests import Request
from llama4sdk_aws.authorizers import Authorizer
from llama4sdk_aws.aws_dialect import AwsDialect
from llama4sdk_aws.aws_errors import ErrorReport
from llama4sdk_aws.client import AwsTarget
from llama4sdk_aws.container_requests import container_body
from llama4sdk_aws.container_stream import ContainerReader
from llama4sdk_aws.options import SageMakerOptions

HEADER_PREFIX: Final = "X-Amzn-SageMaker-"


class SageMakerDialect(AwsDialect):
    """One endpoint; everything is streamed, since whole answers must be done within a minute."""

    def __init__(
        self, target: AwsTarget, plan: Plan, authorizer: Authorizer, endpoint: Endpoint, options: SageMakerOptions
    ) -> None:
        super().__init__("sagemaker", plan, authorizer, endpoint)
        endpoint_name = quote(options.endpoint_name or plan.model, safe="")
        self._url = f"{target.url}/endpoints/{endpoint_name}/invocations-response-stream"
        self._container = options.dialect
        headers = {
            "Accept": "application/json",
            "Inference-Component": options.inference_component,
            "Target-Variant": options.target_variant,
            "Target-Model": options.target_model,
            "Custom-Attributes": options.custom_attributes,
            "Session-Id": options.session_id,
        }
        self._endpoint_headers = {f"{HEADER_PREFIX}{name}": value for name, value in headers.items() if value}

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        """Build the call with the container's own body."""
        call = self.call(self._url, encode_json(container_body(request, self._container)), self._endpoint_headers)
        return call, ContainerReader(self.backend, request.sampling.stop, self.to_error, self._container_error)

    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        """Return AWS' error, or the container's where the answer carries one."""
        fields = status_errors.parse_error_body(body).fields
        status, message = fields.get("OriginalStatusCode"), fields.get("OriginalMessage")
        if not isinstance(status, int):
            return super().parse_error(head, body)
        if not isinstance(message, str) or not message:
            message = str(fields.get("Message") or fields.get("message") or "")
        error = self._container_error(status, message.encode())
        if isinstance(error, APIError):
            error.request_id = head.request_id
        return error

    def to_error(self, report: ErrorReport) -> Llama4Error:
        """Return the SDK's error of a report, with the permission that is needed."""
        error = super().to_error(report)
        if isinstance(error, PermissionDeniedError):
            error.hint = "Allow sagemaker:InvokeEndpointWithResponseStream on the endpoint."
        return error

    def _container_error(self, status: int, body: bytes) -> Llama4Error:
        """Return the error of a container, whose statuses are those of any server; its log explains them."""
        error = status_errors.status_error(
            Head(status, {}), body, backend=self.backend, model=self.model, context_length=self._context_length, now=0.0
        )
        if isinstance(error, APIError):
            error.hint = f"{error.hint or ''} The container's log in CloudWatch says more.".lstrip()
        return error
