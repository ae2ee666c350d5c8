"""Where one of AWS' services is, and who asks there. Loads botocore only for signatures, and only when called."""

from __future__ import annotations

import os
from typing import NamedTuple

from llama4sdk.backend import Unavailable
from llama4sdk.endpoint import Endpoint, is_loopback
from llama4sdk_aws import environment
from llama4sdk_aws.authority import Authority, Bearer, Keys
from llama4sdk_aws.environment import Service
from llama4sdk_aws.options import AwsOptions

__all__ = ["Place", "authority", "find_place"]

API_KEY = "AWS_BEARER_TOKEN_BEDROCK"


class Place(NamedTuple):
    """One service in one region."""

    url: str
    region: str
    bearer: bool
    """Whether it is asked with an API key."""


def find_place(service: Service, endpoint: Endpoint, options: AwsOptions, *, keys: bool) -> Place | Unavailable:
    """Where to ask, or what is missing; ``keys`` says whether the service takes API keys. Opens no connection."""
    profile = environment.profile_name(options.profile)
    named = endpoint.url or environment.named_url(service, profile)
    region = environment.region_of(options.region, named, profile)
    bearer = _bearer(endpoint, keys=keys)
    if region is None:
        return Unavailable(
            reason="it is not known in which AWS region to ask.",
            fix="Set AWS_REGION, for example to us-east-1, or pass Endpoint(options={'region': ...}).",
        )
    if named is not None and (options.fips or options.dualstack):
        return Unavailable(
            reason="an address of one's own is neither FIPS nor dual-stack.", fix="Leave out the address or the option."
        )
    url = (named or environment.default_url(service, region, fips=options.fips, dualstack=options.dualstack)).rstrip(
        "/"
    )
    if bearer and not url.startswith("https://") and not is_loopback(url):
        return Unavailable(
            reason="an API key is not sent without encryption.", fix="Use an address that begins with https://."
        )
    if endpoint.api_key is not None and not keys and Keys.read(endpoint.api_key.get_secret_value()) is None:
        return Unavailable(
            reason="it takes AWS keys only, and the api_key is none.",
            fix="Pass api_key='ACCESS_KEY_ID:SECRET_ACCESS_KEY', or leave it out and log in to AWS.",
        )
    if endpoint.api_key is None and not bearer and not environment.credentials_in_sight(profile):
        also = f", or {API_KEY}" if keys else ""
        return Unavailable(
            reason="there are no AWS credentials here.",
            fix=f"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE{also}, or pass api_key.",
        )
    return Place(url, region, bearer)


def authority(service: Service, backend: str, place: Place, endpoint: Endpoint, options: AwsOptions) -> Authority:
    """Who asks: an API key, keys given in code, or whoever botocore finds."""
    given = endpoint.api_key.get_secret_value() if endpoint.api_key else None
    if place.bearer:
        return Bearer(given or os.environ[API_KEY].strip())
    from llama4sdk_aws.signing import Signer

    keys = Keys.read(given) if given else None
    return Signer(backend, service.signing, place.region, keys=keys, profile=options.profile)


def _bearer(endpoint: Endpoint, *, keys: bool) -> bool:
    if endpoint.api_key is not None:
        return keys and Keys.read(endpoint.api_key.get_secret_value()) is None
    return keys and bool(os.environ.get(API_KEY, "").strip())
