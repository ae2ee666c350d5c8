"""Bedrock's operations: which of them answers a request, and what follows when one refuses."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, Llama4Error
from llama4sdk.plan import Plan
from llama4sdk.remote.dialect import Call, Head, Reader
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.remote.json_fields import encode_json, token_count
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings
from llama4sdk_aws.authorizers import Authorizer
from llama4sdk_aws.aws_dialect import AwsDialect
from llama4sdk_aws.aws_errors import counting_error, find_remedy
from llama4sdk_aws.client import AwsTarget
from llama4sdk_aws.converse import converse_body, counting_body, has_tools
from llama4sdk_aws.converse_stream import ConverseReader, ConverseStreamReader, decode_answer
from llama4sdk_aws.embedding import embed_bodies, parse_embeddings
from llama4sdk_aws.invoke import InvokeReader, InvokeStreamReader, invoke_body, invoke_headers
from llama4sdk_aws.models import base_id, find_model, invocation_id, model_family, profile_prefix
from llama4sdk_aws.options import BedrockOptions

#: Remedies that follow from the model: later requests begin with them.
MODEL_REMEDIES: Final = frozenset({"unary", "unary-tools", "stops", "profile"})


class BedrockDialect(AwsDialect):
    """One model in one region."""

    def __init__(
        self, target: AwsTarget, plan: Plan, authorizer: Authorizer, endpoint: Endpoint, options: BedrockOptions
    ) -> None:
        super().__init__("bedrock", plan, authorizer, endpoint)
        bedrock_model = find_model(plan.model)
        self._target = target
        self._model_id = bedrock_model.id or plan.model
        self._max_output_tokens = bedrock_model.max_output_tokens
        self._family = model_family(self._model_id)
        self._options = options
        #: Remedies that earlier refusals of the model have shown to be needed.
        self.learned: frozenset[str] = frozenset()

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        """Build the call: ConverseStream for messages, Converse where there are tools, InvokeModel for a prompt."""
        remedies |= self.learned
        if request.prompt is not None:
            return self._ask_invoke(request, remedies)
        stops, tools = request.sampling.stop, has_tools(request)
        whole = "unary" in remedies or (tools and ("unary-tools" in remedies or self._family == "llama"))
        body = converse_body(request, self._options, stream=not whole, stops="stops" not in remedies)
        if whole:
            call = self._post("converse", body, remedies, {"Accept": "application/json"})
            return call, ConverseReader(self.backend, stops)
        return self._post("converse-stream", body, remedies), ConverseStreamReader(self.backend, stops, self.to_error)

    def remedy(self, error: Llama4Error) -> str | None:
        """Name what may help against a refusal of streams, tools in streams, stop strings, or a base id."""
        name = find_remedy(error)
        if name not in MODEL_REMEDIES:
            return super().remedy(error)
        if name == "profile" and (self._model_id.startswith("arn:") or not profile_prefix(self._target.region)):
            return None
        self.learned |= {name}
        return name

    def build_embed_calls(self, request: EmbedRequest) -> Sequence[Call]:
        """Build the calls: one text each for Titan, 96 for Cohere."""
        bodies = embed_bodies(self._model_id, self._family, request, self._options)
        headers = invoke_headers(self._options)
        return [self.call(self._url("invoke", self.learned), body, headers) for body in bodies]

    def read_embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        """Return all vectors in the order of the inputs."""
        bodies = [(head.headers, body) for head, body in answers]
        return parse_embeddings(request, bodies, model=self.model, backend=self.backend)

    def build_count_call(self, request: Request) -> Call:
        """Build the call of CountTokens, which takes the ids of models only, not of profiles."""
        body: Mapping[str, JsonValue]
        if request.prompt is None:
            body = counting_body(request)
        else:
            prompt = base64.b64encode(encode_json(invoke_body(request, None))).decode("ascii")
            body = {"input": {"invokeModel": {"body": prompt}}}
        model_id = quote(base_id(self._model_id), safe="")
        return self.call(f"{self._target.url}/model/{model_id}/count-tokens", encode_json(body), {})

    def read_count(self, head: Head, body: bytes) -> int:
        """Return the tokens of the input. Raises APIError where there is no number."""
        count = token_count(decode_answer(body, self.backend), "inputTokens")
        if count is None:
            raise APIError(f"'{self.backend}' did not say how many tokens it counted.", backend=self.backend)
        return count

    def _ask_invoke(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        body, stops = invoke_body(request, self._max_output_tokens), request.sampling.stop
        if "unary" in remedies:
            headers = invoke_headers(self._options)
            return self._post("invoke", body, remedies, headers), InvokeReader(self.backend, stops)
        headers = invoke_headers(self._options, stream=True)
        call = self._post("invoke-with-response-stream", body, remedies, headers)
        return call, InvokeStreamReader(self.backend, stops, self.to_error)

    def _post(
        self, operation: str, body: Mapping[str, JsonValue], remedies: frozenset[str], headers: Mapping[str, str] = {}
    ) -> Call:
        return self.call(self._url(operation, remedies), encode_json(body), headers)

    def _url(self, operation: str, remedies: frozenset[str]) -> str:
        region = self._target.region
        model_id = invocation_id(self._model_id, region)
        if "profile" in remedies and model_id == self._model_id:
            model_id = f"{profile_prefix(region)}.{base_id(model_id)}"
        return f"{self._target.url}/model/{quote(model_id, safe='')}/{operation}"


class BedrockEngine(RemoteEngine):
    """An engine for models whose tokens Bedrock may not count, and that may embed only by their profile."""

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Return one vector per input; asks once more where a refusal showed how the model must be asked."""
        assert isinstance(self.dialect, BedrockDialect)  # noqa: S101 - it is made with one
        learned = self.dialect.learned
        try:
            return super().embed(request)
        except APIError:
            if self.dialect.learned == learned:
                raise
            return super().embed(request)

    def count_tokens(self, request: Request) -> int:
        """Count by Bedrock. Raises UnsupportedFeatureError for a model whose tokens it does not count."""
        try:
            return super().count_tokens(request)
        except APIError as error:
            raise counting_error(error, self.dialect.backend) from error
