"""Credentials of botocore's whole chain, and signatures by them (SigV4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from botocore import exceptions as aws
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.session import Session

from llama4sdk.errors import APIConnectionError, AuthenticationError, ConfigurationError, Llama4Error
from llama4sdk.remote.dialect import Call, Head
from llama4sdk_aws.authority import Authority, Keys

__all__ = ["Signer"]

TOGETHER: Final = 5.0
"""Seconds in which requests that were refused with the same credentials come back: these are replaced once."""

QUICK: Final = Config(connect_timeout=10, read_timeout=10, retries={"total_max_attempts": 2})
"""For servers that give credentials; nobody waits minutes for these."""

NOWHERE: Final = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE with a profile of ~/.aws/config, or run "
    "'aws sso login'; roles of containers and EC2 are found by themselves."
)


class Signer(Authority):
    """Signs for one service in one region."""

    def __init__(
        self,
        backend: str,
        service: str,
        region: str,
        *,
        keys: Keys | None = None,
        profile: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``profile`` is one named in code, which counts more than keys in the environment."""
        self._backend = backend
        self._service = service
        self._region = region
        self._given = Credentials(*keys, method="explicit") if keys else None
        self._profile = profile
        self._now = now
        self._offset = 0.0
        self._lock = threading.Lock()
        self._found: Credentials | None = self._given
        self._forgotten = -TOGETHER

    @property
    def waits(self) -> bool:
        """While credentials are to be looked for, or to be renewed."""
        found = self._found
        return found is None or (isinstance(found, RefreshableCredentials) and found.refresh_needed())

    def authorize(self, call: Call) -> Call:
        """The call with a signature of this moment. Raises AuthenticationError where there are no credentials."""
        with _in_our_words(self._backend):
            credentials = self._credentials().get_frozen_credentials()
        request = AWSRequest(method=call.method, url=call.url, headers=dict(call.headers), data=call.content)
        moment = datetime.fromtimestamp(self._now() + self._offset, UTC)
        try:
            _At(credentials, self._service, self._region, moment).add_auth(request)
        except UnicodeError:
            hint = "Look for line breaks and accents in them."
            raise ConfigurationError("The AWS keys have characters that no key has.", hint=hint) from None
        return replace(call, headers=dict(request.headers.items()))

    def forget(self) -> bool:
        """Look for newer ones at the next call: in files, in the environment, at whoever gave them."""
        if self._given is not None:
            return False
        with self._lock:
            if time.monotonic() - self._forgotten >= TOGETHER:
                self._forgotten = time.monotonic()
                self._found = None
        return True

    def set_clock(self, head: Head) -> bool:
        """Sign by the ``Date`` of this answer from now on."""
        try:
            theirs = parsedate_to_datetime(head.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return False
        self._offset = theirs - self._now()
        return True

    def secrets(self) -> Sequence[str]:
        """The secret key and the session token, as far as they are known."""
        found = self._found
        if found is None:
            return ()
        if isinstance(found, RefreshableCredentials):  # whose properties may ask for others
            return [value for value in (found._secret_key, found._token) if value]
        return [value for value in (found.secret_key, found.token) if value]

    def _credentials(self) -> Credentials:
        found = self._found
        if found is not None:
            return found
        with self._lock:
            if self._found is None:
                self._found = self._look()
            return self._found

    def _look(self) -> Credentials:
        session = Session(profile=self._profile)
        session.set_config_variable("region", self._region)
        session.set_default_client_config(QUICK)
        found: Credentials | None = session.get_credentials()
        if found is None:
            raise AuthenticationError("No AWS credentials were found.", backend=self._backend, hint=NOWHERE)
        return found


class _At(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer, at a moment of our choosing."""

    def __init__(self, credentials: ReadOnlyCredentials, service: str, region: str, moment: datetime) -> None:
        super().__init__(credentials, service, region)
        self._moment = moment

    def add_auth(self, request: AWSRequest) -> None:
        """Sign; nothing is logged."""
        request.context["timestamp"] = self._moment.strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


@contextmanager
def _in_our_words(backend: str) -> Iterator[None]:
    """What may go wrong on the way to credentials, as the SDK's errors."""
    try:
        yield
    except Llama4Error:
        raise
    except aws.ProfileNotFound as error:
        raise ConfigurationError(_sentence(error), hint="Correct AWS_PROFILE or the profile.") from error
    except aws.PartialCredentialsError as error:
        raise ConfigurationError(_sentence(error), hint="Set both halves of the key.") from error
    except (aws.ConnectionError, aws.HTTPClientError) as error:
        what = f"AWS could not be asked for credentials. {_sentence(error)}"
        hint = "Check the network, and the profile's region."
        raise APIConnectionError(what, backend=backend, retryable=True, hint=hint) from error
    except (aws.BotoCoreError, aws.ClientError, RuntimeError, OSError, ValueError, LookupError) as error:
        what = f"No AWS credentials could be had. {_sentence(error)}"
        raise AuthenticationError(what, backend=backend, hint=NOWHERE) from error


def _sentence(error: Exception) -> str:
    return f"{str(error).strip() or type(error).__name__}".rstrip(".") + "."
