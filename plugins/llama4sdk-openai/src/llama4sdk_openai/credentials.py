"""Resolves an endpoint's address and credentials from arguments, environment variables and its profile."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import quote, urlsplit

from pydantic import ValidationError

from llama4sdk.backend import Unavailable
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import AuthenticationError
from llama4sdk_openai.options import Options
from llama4sdk_openai.profiles import Profile

#: The region of Vertex AI that serves Llama 4.
DEFAULT_VERTEX_LOCATION: Final = "us-east5"

GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"

#: Azure's hosts that have their models at the root.
AZURE_SERVERLESS_HOSTS: Final = ("models.ai.azure.com", "inference.ai.azure.com")


@dataclass(frozen=True)
class ResolvedEndpoint:
    """An address and the headers of every request; ``secrets`` are the values that no message may show."""

    base_url: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def url(self, path: str) -> str:
        """Return the address of a path of the protocol."""
        return f"{self.base_url}{path}{self.query}"

    @property
    def server_root(self) -> str:
        """The address below which a server has paths that are not of OpenAI's protocol."""
        return self.base_url.removesuffix("/v1")


def resolve_endpoint(profile: Profile, endpoint: Endpoint, options: Options) -> ResolvedEndpoint | Unavailable:
    """Return where and with which credentials to send requests. Reads the environment, and sends nothing."""
    base_url = _vertex_url(endpoint, options) if profile.auth == "google" else _base_url(profile, endpoint)
    if isinstance(base_url, Unavailable):
        return base_url
    key = endpoint.api_key.get_secret_value() if endpoint.api_key else _first_set(profile.key_variables)
    if key is None and (refusal := _missing_key(profile)):
        return refusal
    headers = {"Content-Type": "application/json", **profile.headers, **_billing_headers(options)}
    if key is not None:
        scheme = options.auth or profile.auth
        headers |= {"api-key": key} if scheme == "api-key" else {"Authorization": f"Bearer {key}"}
    custom_headers = {name: value.get_secret_value() for name, value in endpoint.headers.items()}
    needs_version = profile.name == "azure" and not base_url.endswith("/openai/v1")
    query = f"?api-version={quote(options.api_version)}" if needs_version else ""
    secrets = tuple(filter(None, (key, *custom_headers.values())))
    return ResolvedEndpoint(base_url, query, headers | custom_headers, secrets)


class GoogleTokens:
    """Access tokens of the application's default credentials, refreshed before they expire."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credentials: Any = None

    @property
    def is_stale(self) -> bool:
        """Whether the next token has to be fetched."""
        return self._credentials is None or not self._credentials.valid

    def token(self) -> str:
        """Return a valid token. Raises AuthenticationError where there are no credentials, or no longer."""
        with self._lock:
            if self.is_stale:
                self._refresh()
            return str(self._credentials.token)

    def forget(self) -> None:
        """Drop the token after it was refused, so that the next is a new one."""
        with self._lock:
            self._credentials = None

    def secrets(self) -> tuple[str, ...]:
        """Return the token in use, if there is one."""
        credentials = self._credentials
        return (str(credentials.token),) if credentials is not None and credentials.token else ()

    def _refresh(self) -> None:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=[GOOGLE_SCOPE])
            self._credentials.refresh(Request())
        except GoogleAuthError as error:
            self._credentials = None
            raise AuthenticationError(
                f"Google's credentials give no token: {error}.",
                backend="vertex",
                hint="Run: gcloud auth application-default login; or pass a token as api_key.",
            ) from error


def _missing_key(profile: Profile) -> Unavailable | None:
    if profile.auth == "google":
        if _has_google_auth():
            return None
        return Unavailable(
            reason="nothing gives it a token: google-auth is not installed, and no api_key was passed.",
            fix="pip install 'llama4sdk-openai[vertex]', or pass api_key= (gcloud auth print-access-token).",
        )
    if profile.key == "optional":
        return None
    variable = profile.key_variables[0]
    return Unavailable(reason=f"it has no API key: {variable} is not set.", fix=f"Set {variable}, or pass api_key=.")


def _base_url(profile: Profile, endpoint: Endpoint) -> str | Unavailable:
    if endpoint.url is not None:
        return _with_path(profile, endpoint.url)
    if (url := _first_set(profile.url_variables)) is not None:
        try:
            return _with_path(profile, Endpoint(url=url).url or "")
        except ValidationError:
            variables = " or ".join(profile.url_variables)
            return Unavailable(reason=f"{variables} holds no address.", fix="Write https://host/v1, and nothing more.")
    if profile.url is not None:
        return profile.url
    variable = profile.url_variables[0]
    return Unavailable(
        reason=f"it has no address of its own, and {variable} is not set.",
        fix=f"Pass endpoint='https://host{profile.path}', or set {variable}.",
    )


def _with_path(profile: Profile, url: str) -> str:
    """Append the profile's path to an address that is only a host."""
    parts = urlsplit(url)
    if parts.path.strip("/") or (profile.name == "azure" and (parts.hostname or "").endswith(AZURE_SERVERLESS_HOSTS)):
        return url.rstrip("/")
    return url.rstrip("/") + profile.path


def _vertex_url(endpoint: Endpoint, options: Options) -> str | Unavailable:
    if endpoint.url is not None and urlsplit(endpoint.url).path.strip("/"):
        return endpoint.url
    project = options.project or _first_set(("GOOGLE_CLOUD_PROJECT",))
    if project is None:
        return Unavailable(
            reason="it does not know your project: GOOGLE_CLOUD_PROJECT is not set.",
            fix="Set GOOGLE_CLOUD_PROJECT, or pass Endpoint(options={'project': ...}).",
        )
    variables = ("GOOGLE_CLOUD_LOCATION", "VERTEXAI_LOCATION")
    location = options.location or _first_set(variables) or DEFAULT_VERTEX_LOCATION
    host = "aiplatform" if location == "global" else f"{quote(location)}-aiplatform"
    server = endpoint.url or f"https://{host}.googleapis.com"
    return f"{server}/v1/projects/{quote(project)}/locations/{quote(location)}/endpoints/openapi"


def _billing_headers(options: Options) -> dict[str, str]:
    headers = {"X-HF-Bill-To": options.bill_to, "x-goog-user-project": options.quota_project}
    return {name: value for name, value in headers.items() if value is not None}


def _has_google_auth() -> bool:
    try:
        return find_spec("google.auth") is not None
    except ModuleNotFoundError:
        return False


def _first_set(variables: tuple[str, ...]) -> str | None:
    return next((value for name in variables if (value := os.environ.get(name, "").strip())), None)
