"""How Bedrock is spoken to: which of its operations answers what, and what is tried when one of them refuses."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, Llama4Error
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings
from llama4sdk_aws import failures
from llama4sdk_aws.authority import Authority
from llama4sdk_aws.converse import converse_body, counting_body, has_tools
from llama4sdk_aws.converse_stream import ConverseReader, ConverseStreamReader, number, parsed
from llama4sdk_aws.embedding import embed_bodies, vectors
from llama4sdk_aws.invoke import InvokeReader, InvokeStreamReader, invoke_body, invoke_headers
from llama4sdk_aws.models import address, base_id, family, geography, known
from llama4sdk_aws.options import BedrockOptions

__all__ = ["AwsDialect", "BedrockDialect", "BedrockEngine"]

LASTING: Final = frozenset({"unary", "unary-tools", "stops", "profile"})
"""Remedies that speak of the model: later requests begin with them."""


class AwsDialect(Dialect):
    """What is common to AWS' services."""

    def __init__(self, backend: str, model: str, context: int, authority: Authority, endpoint: Endpoint) -> None:
        self.backend = backend
        self.model = model
        self._context = context
        self._authority = authority
        self._headers = {name: value.get_secret_value() for name, value in endpoint.headers.items()}

    @property
    def waits(self) -> bool:
        """While credentials must be found or renewed."""
        return self._authority.waits

    def authorize(self, call: Call) -> Call:
        """Signed anew for each try."""
        return self._authority.authorize(call)

    def secrets(self) -> Sequence[str]:
        """Keys, tokens, and the values of the caller's own headers."""
        return (*self._authority.secrets(), *self._headers.values())

    def failure(self, head: Head, body: bytes) -> Llama4Error:
        """By the table of AWS' errors."""
        error = self.judge(failures.told(head, body, now=time.time()))
        if failures.remedy(error) == "clock" and self._authority.set_clock(head):
            error.hint = "This machine's clock differs from AWS': set it."
        return error

    def judge(self, told: failures.Told) -> Llama4Error:
        """The SDK's error for what was told."""
        return failures.error_of(told, backend=self.backend, model=self.model, context=self._context)

    def remedy(self, error: Llama4Error) -> str | None:
        """Other credentials, or AWS' time of day."""
        name = failures.remedy(error)
        if name == "credentials":
            return name if self._authority.forget() else None
        return name if name == "clock" else None

    def call(self, url: str, body: bytes, headers: Mapping[str, str]) -> Call:
        """A POST with these headers and the caller's own."""
        return Call("POST", url, {"Content-Type": "application/json", **headers, **self._headers}, body)


class BedrockDialect(AwsDialect):
    """One model in one region."""

    def __init__(
        self,
        url: str,
        model: str,
        region: str,
        context: int,
        authority: Authority,
        endpoint: Endpoint,
        options: BedrockOptions,
    ) -> None:
        super().__init__("bedrock", model, context, authority, endpoint)
        self._url = url
        self._output = known(model).output
        self._name = known(model).id or model
        self._region = region
        self._options = options
        self._family = family(self._name)
        self.learned: frozenset[str] = frozenset()
        """What is known of the model by its refusals."""

    def ask(self, request: Request, tried: frozenset[str]) -> tuple[Call, Reader]:
        """Messages go to ConverseStream, or to Converse where tools are in play; a prompt goes to InvokeModel."""
        tried |= self.learned
        stops = request.sampling.stop
        if request.prompt is not None:
            return self._continue(request, tried)
        tools = has_tools(request)
        whole = "unary" in tried or (tools and ("unary-tools" in tried or self._family == "llama"))
        body = converse_body(request, self._options, stream=not whole, stops="stops" not in tried)
        if whole:
            return self._post("converse", body, tried, {"Accept": "application/json"}), ConverseReader(
                self.backend, stops
            )
        return self._post("converse-stream", body, tried), ConverseStreamReader(self.backend, stops, self.judge)

    def remedy(self, error: Llama4Error) -> str | None:
        """What helps against a refusal of streams, tools in streams, stop strings, or a base id."""
        name = failures.remedy(error)
        if name not in LASTING:
            return super().remedy(error)
        if name == "profile" and (self._name.startswith("arn:") or not geography(self._region)):
            return None
        self.learned |= {name}
        return name

    def embed(self, request: EmbedRequest) -> Sequence[Call]:
        """One text a call for Titan, 96 for Cohere."""
        bodies = embed_bodies(self._name, self._family, request, self._options)
        headers = invoke_headers(self._options)
        return [self.call(self._path("invoke", self.learned), body, headers) for body in bodies]

    def embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        """All vectors in their order."""
        rows, usage = vectors(request, [(head.headers, body) for head, body in answers], self.backend)
        return Embeddings(vectors=rows, usage=usage, model=self.model, backend=self.backend)

    def count(self, request: Request) -> Call:
        """CountTokens, which knows models only, no profiles."""
        if request.prompt is None:
            body = counting_body(request)
        else:
            prompt = json.dumps(invoke_body(request, None)).encode()
            body = {"input": {"invokeModel": {"body": base64.b64encode(prompt).decode("ascii")}}}
        name = quote(base_id(self._name), safe="")
        return self.call(f"{self._url}/model/{name}/count-tokens", json.dumps(body).encode(), {})

    def counted(self, head: Head, body: bytes) -> int:
        """Tokens of the input. Raises APIError where there is no number."""
        count = number(parsed(body, self.backend), "inputTokens")
        if count is None:
            raise APIError(f"'{self.backend}' did not say how many tokens it counted.", backend=self.backend)
        return count

    def _continue(self, request: Request, tried: frozenset[str]) -> tuple[Call, Reader]:
        body, stops = invoke_body(request, self._output), request.sampling.stop
        if "unary" in tried:
            headers = invoke_headers(self._options)
            return self._post("invoke", body, tried, headers), InvokeReader(self.backend, stops)
        headers = invoke_headers(self._options, stream=True)
        call = self._post("invoke-with-response-stream", body, tried, headers)
        return call, InvokeStreamReader(self.backend, stops, self.judge)

    def _post(
        self, operation: str, body: Mapping[str, JsonValue], tried: frozenset[str], headers: Mapping[str, str] = {}
    ) -> Call:
        return self.call(self._path(operation, tried), json.dumps(body).encode(), headers)

    def _path(self, operation: str, tried: frozenset[str]) -> str:
        name = address(self._name, self._region)
        if "profile" in tried and name == self._name:
            name = f"{geography(self._region)}.{base_id(name)}"
        return f"{self._url}/model/{quote(name, safe='')}/{operation}"


class BedrockEngine(RemoteEngine):
    """Knows that most models' tokens are not counted, and that some embed only by their profile."""

    def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector per input; once more where it was learned how the model wants to be asked."""
        assert isinstance(self.dialect, BedrockDialect)  # noqa: S101 - it is made with one
        before = self.dialect.learned
        try:
            return super().embed(request)
        except APIError:
            if self.dialect.learned == before:
                raise
            return super().embed(request)

    def count_tokens(self, request: Request) -> int:
        """As Bedrock counts. Raises UnsupportedFeatureError for a model whose tokens it does not count."""
        try:
            return super().count_tokens(request)
        except APIError as error:
            raise failures.no_counting(error, self.dialect.backend) from error
