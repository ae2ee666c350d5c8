"""Finds credentials by botocore's chain, and signs calls with them (SigV4)."""

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
from llama4sdk_aws.authorizers import Authorizer, AwsKeys

#: Within this time, requests that were refused with the same credentials replace them only once.
FORGET_INTERVAL_SECONDS: Final = 5.0

#: For servers that give credentials: their default limits are minutes.
CREDENTIAL_SERVER_CONFIG: Final = Config(connect_timeout=10, read_timeout=10, retries={"total_max_attempts": 2})

LOGIN_HINT: Final = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE with a profile of ~/.aws/config, or run "
    "'aws sso login'; roles of containers and EC2 are found by themselves."
)


class Signer(Authorizer):
    """Signs for one service in one region."""

    def __init__(
        self,
        backend: str,
        service: str,
        region: str,
        *,
        keys: AwsKeys | None = None,
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
        self._credentials: Credentials | None = self._given
        self._forgotten_at = -FORGET_INTERVAL_SECONDS

    @property
    def authorize_blocks(self) -> bool:
        """Whether credentials must be found or renewed."""
        credentials = self._credentials
        return credentials is None or (isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed())

    def authorize(self, call: Call) -> Call:
        """Return the call with a signature of now. Raises AuthenticationError where there are no credentials."""
        with _converted_errors(self._backend):
            credentials = self._find_credentials().get_frozen_credentials()
        request = AWSRequest(method=call.method, url=call.url, headers=dict(call.headers), data=call.content)
        moment = datetime.fromtimestamp(self._now() + self._offset, UTC)
        try:
            _SignatureAt(credentials, self._service, self._region, moment).add_auth(request)
        except UnicodeError:
            hint = "Look for line breaks and accents in them."
            raise ConfigurationError("The AWS keys have characters that no key has.", hint=hint) from None
        return replace(call, headers=dict(request.headers.items()))

    def forget(self) -> bool:
        """Find newer credentials at the next call, in the environment, in files or at their server."""
        if self._given is not None:
            return False
        with self._lock:
            if time.monotonic() - self._forgotten_at >= FORGET_INTERVAL_SECONDS:
                self._forgotten_at = time.monotonic()
                self._credentials = None
        return True

    def set_clock(self, head: Head) -> bool:
        """Sign with the ``Date`` of this answer from now on."""
        try:
            server_time = parsedate_to_datetime(head.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return False
        self._offset = server_time - self._now()
        return True

    def secrets(self) -> Sequence[str]:
        """Return the secret key and the session token, as far as they are known."""
        credentials = self._credentials
        if credentials is None:
            return ()
        if isinstance(credentials, RefreshableCredentials):  # whose properties may renew them
            return [value for value in (credentials._secret_key, credentials._token) if value]
        return [value for value in (credentials.secret_key, credentials.token) if value]

    def _find_credentials(self) -> Credentials:
        credentials = self._credentials
        if credentials is not None:
            return credentials
        with self._lock:
            if self._credentials is None:
                self._credentials = self._load_credentials()
            return self._credentials

    def _load_credentials(self) -> Credentials:
        session = Session(profile=self._profile)
        session.set_config_variable("region", self._region)
        session.set_default_client_config(CREDENTIAL_SERVER_CONFIG)
        credentials: Credentials | None = session.get_credentials()
        if credentials is None:
            raise AuthenticationError("No AWS credentials were found.", backend=self._backend, hint=LOGIN_HINT)
        return credentials


class _SignatureAt(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer with a given time."""

    def __init__(self, credentials: ReadOnlyCredentials, service: str, region: str, moment: datetime) -> None:
        super().__init__(credentials, service, region)
        self._moment = moment

    def add_auth(self, request: AWSRequest) -> None:
        """Sign a request, without botocore's log of what was signed."""
        request.context["timestamp"] = self._moment.strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


@contextmanager
def _converted_errors(backend: str) -> Iterator[None]:
    """Convert botocore's errors of finding credentials to the SDK's."""
    try:
        yield
    except Llama4Error:
        raise
    except aws.ProfileNotFound as error:
        raise ConfigurationError(_sentence(error), hint="Correct AWS_PROFILE or the profile.") from error
    except aws.PartialCredentialsError as error:
        raise ConfigurationError(_sentence(error), hint="Set both halves of the key.") from error
    except (aws.ConnectionError, aws.HTTPClientError) as error:
        message = f"AWS could not be asked for credentials. {_sentence(error)}"
        hint = "Check the network, and the profile's region."
        raise APIConnectionError(message, backend=backend, retryable=True, hint=hint) from error
    except (aws.BotoCoreError, aws.ClientError, RuntimeError, OSError, ValueError, LookupError) as error:
        message = f"No AWS credentials could be had. {_sentence(error)}"
        raise AuthenticationError(message, backend=backend, hint=LOGIN_HINT) from error


def _sentence(error: Exception) -> str:
    return f"{str(error).strip() or type(error).__name__}".rstrip(".") + "."
