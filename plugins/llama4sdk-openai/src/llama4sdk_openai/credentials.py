"""Where an endpoint is and what it is shown to be let in, from arguments, environment and profile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import ValidationError

from llama4sdk.backend import Unavailable
from llama4sdk.endpoint import Endpoint
from llama4sdk_openai.options import Options
from llama4sdk_openai.profiles import Profile

__all__ = ["Access", "access", "api_key"]

HOME_OF_LLAMA_ON_VERTEX: Final = "us-east5"
SERVERLESS: Final = ("models.ai.azure.com", "inference.ai.azure.com")
"""Azure's hosts that have their models at the root."""


@dataclass(frozen=True)
class Access:
    """An address and the headers every request has; ``secrets`` are those of them that nobody may see."""

    base: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def url(self, path: str) -> str:
        """The address of something below the base."""
        return f"{self.base}{path}{self.query}"

    @property
    def root(self) -> str:
        """Where a server has what is not of OpenAI's protocol."""
        return self.base.removesuffix("/v1")


def access(profile: Profile, endpoint: Endpoint, options: Options) -> Access | Unavailable:
    """How this endpoint is reached. Free of I/O but for the environment."""
    base = _vertex(endpoint, options) if profile.auth == "google" else _base(profile, endpoint)
    if isinstance(base, Unavailable):
        return base
    key = api_key(profile, endpoint)
    if key is None and profile.auth == "google" and not _has_google_auth():
        return Unavailable(
            reason="nothing gives it a token: google-auth is not installed, and no api_key was passed.",
            fix="pip install 'llama4sdk-openai[vertex]', or pass api_key= (gcloud auth print-access-token).",
        )
    if key is None and profile.key == "needed" and profile.auth != "google":
        name = profile.key_variables[0]
        return Unavailable(reason=f"it has no API key: {name} is not set.", fix=f"Set {name}, or pass api_key=.")
    headers = {"Content-Type": "application/json", **profile.headers, **_routing(profile, options)}
    if key is not None:
        scheme = options.auth or profile.auth
        headers |= {"api-key": key} if scheme == "api-key" else {"Authorization": f"Bearer {key}"}
    own = {name: value.get_secret_value() for name, value in endpoint.headers.items()}
    query = f"?api-version={quote(options.api_version)}" if _is_inference(profile, base) else ""
    return Access(base, query, headers | own, tuple(filter(None, (key, *own.values()))))


def api_key(profile: Profile, endpoint: Endpoint) -> str | None:
    """The key passed, or the one in the environment."""
    if endpoint.api_key is not None:
        return endpoint.api_key.get_secret_value()
    return _first(profile.key_variables)


def _base(profile: Profile, endpoint: Endpoint) -> str | Unavailable:
    if endpoint.url is not None:
        return _with_path(profile, endpoint.url)
    if (found := _first(profile.url_variables)) is not None:
        try:
            return _with_path(profile, Endpoint(url=found).url or "")
        except ValidationError:
            variables = " or ".join(profile.url_variables)
            return Unavailable(reason=f"{variables} holds no address.", fix="Write https://host/v1, and nothing more.")
    if profile.url is not None:
        return profile.url
    name = profile.url_variables[0]
    return Unavailable(
        reason=f"it has no address of its own, and {name} is not set.",
        fix=f"Pass endpoint='https://host{profile.path}', or set {name}.",
    )


def _with_path(profile: Profile, url: str) -> str:
    """An address that is only a host is that of its server; where on it the protocol is, the profile says."""
    parts = urlsplit(url)
    if parts.path.strip("/") or (profile.name == "azure" and (parts.hostname or "").endswith(SERVERLESS)):
        return url.rstrip("/")
    return url.rstrip("/") + profile.path


def _is_inference(profile: Profile, base: str) -> bool:
    """Of Azure's two surfaces, the one that wants a version in each address."""
    return profile.name == "azure" and not base.endswith("/openai/v1")


def _vertex(endpoint: Endpoint, options: Options) -> str | Unavailable:
    if endpoint.url is not None and urlsplit(endpoint.url).path.strip("/"):
        return endpoint.url
    project = options.project or _first(("GOOGLE_CLOUD_PROJECT",))
    if project is None:
        return Unavailable(
            reason="it does not know your project: GOOGLE_CLOUD_PROJECT is not set.",
            fix="Set GOOGLE_CLOUD_PROJECT, or pass Endpoint(options={'project': ...}).",
        )
    location = options.location or _first(("GOOGLE_CLOUD_LOCATION", "VERTEXAI_LOCATION")) or HOME_OF_LLAMA_ON_VERTEX
    host = "aiplatform" if location == "global" else f"{quote(location)}-aiplatform"
    place = endpoint.url or f"https://{host}.googleapis.com"
    return f"{place}/v1/projects/{quote(project)}/locations/{quote(location)}/endpoints/openapi"


def _routing(profile: Profile, options: Options) -> dict[str, str]:
    headers = {}
    if options.bill_to is not None:
        headers["X-HF-Bill-To"] = options.bill_to
    if options.quota_project is not None:
        headers["x-goog-user-project"] = options.quota_project
    return headers


def _has_google_auth() -> bool:
    try:
        return find_spec("google.auth") is not None
    except ModuleNotFoundError:
        return False


def _first(variables: tuple[str, ...]) -> str | None:
    return next((value for name in variables if (value := os.environ.get(name, "").strip())), None)
