"""Resolves an AWS service's address, and the credentials to use. Loads botocore only for signatures."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from llama4sdk.backend import Unavailable
from llama4sdk.endpoint import Endpoint, is_loopback
from llama4sdk_aws import environment
from llama4sdk_aws.authorizers import Authorizer, AwsKeys, BearerAuthorizer
from llama4sdk_aws.environment import Service
from llama4sdk_aws.options import AwsOptions

API_KEY_VARIABLE: Final = "AWS_BEARER_TOKEN_BEDROCK"


class AwsTarget(NamedTuple):
    """One service in one region."""

    url: str
    region: str
    uses_api_key: bool


def resolve_target(service: Service, endpoint: Endpoint, options: AwsOptions) -> AwsTarget | Unavailable:
    """Return where to send requests, or what is missing. Opens no connection."""
    profile = environment.profile_name(options.profile)
    custom_url = endpoint.url or environment.configured_url(service, profile)
    region = environment.find_region(options.region, custom_url, profile)
    if region is None:
        return Unavailable(
            reason="it is not known in which AWS region to ask.",
            fix="Set AWS_REGION, for example to us-east-1, or pass Endpoint(options={'region': ...}).",
        )
    if custom_url is not None and (options.fips or options.dualstack):
        return Unavailable(
            reason="an address of one's own is neither FIPS nor dual-stack.", fix="Leave out the address or the option."
        )
    url = custom_url or environment.default_url(service, region, fips=options.fips, dualstack=options.dualstack)
    target = AwsTarget(url.rstrip("/"), region, service.takes_api_keys and _has_api_key(endpoint))
    return _check_credentials(service, target, endpoint, profile) or target


def make_authorizer(
    service: Service, backend: str, target: AwsTarget, endpoint: Endpoint, options: AwsOptions
) -> Authorizer:
    """Return what puts credentials on calls: an API key, keys given in code, or those that botocore finds."""
    key = endpoint.api_key.get_secret_value() if endpoint.api_key else None
    if target.uses_api_key:
        return BearerAuthorizer(key or os.environ[API_KEY_VARIABLE].strip())
    from llama4sdk_aws.signing import Signer

    keys = AwsKeys.parse(key) if key else None
    return Signer(backend, service.signing_name, target.region, keys=keys, profile=options.profile)


def _has_api_key(endpoint: Endpoint) -> bool:
    if endpoint.api_key is not None:
        return AwsKeys.parse(endpoint.api_key.get_secret_value()) is None
    return bool(os.environ.get(API_KEY_VARIABLE, "").strip())


def _check_credentials(service: Service, target: AwsTarget, endpoint: Endpoint, profile: str) -> Unavailable | None:
    if target.uses_api_key:
        if target.url.startswith("https://") or is_loopback(target.url):
            return None
        return Unavailable(
            reason="an API key is not sent without encryption.", fix="Use an address that begins with https://."
        )
    if endpoint.api_key is not None:
        if AwsKeys.parse(endpoint.api_key.get_secret_value()) is not None:
            return None
        return Unavailable(
            reason="it takes AWS keys only, and the api_key is none.",
            fix="Pass api_key='ACCESS_KEY_ID:SECRET_ACCESS_KEY', or leave it out and log in to AWS.",
        )
    if environment.has_credentials(profile):
        return None
    api_key = f", or {API_KEY_VARIABLE}" if service.takes_api_keys else ""
    return Unavailable(
        reason="there are no AWS credentials here.",
        fix=f"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE{api_key}, or pass api_key.",
    )
