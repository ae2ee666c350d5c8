"""Access tokens from Google's default credentials. google-auth is imported when a token is needed."""

from __future__ import annotations

import threading
from typing import Any, Final

from llama4sdk.errors import AuthenticationError

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"


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
                self._credentials, _ = google.auth.default(scopes=[SCOPE])
            self._credentials.refresh(Request())
        except GoogleAuthError as error:
            self._credentials = None
            raise AuthenticationError(
                f"Google's credentials give no token: {error}.",
                backend="vertex",
                hint="Run: gcloud auth application-default login; or pass a token as api_key.",
            ) from error
