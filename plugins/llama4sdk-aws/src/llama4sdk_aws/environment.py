"""Reads AWS' settings from the environment and its files: region, addresses, credentials. Loads no botocore."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

REGION_IN_HOST: Final = re.compile(
    r"\.([a-z]{2}(?:-[a-z]+)+-\d)\.(?:vpce\.)?(?:amazonaws\.com|api\.aws|api\.amazonwebservices\.com)"
)

#: Domains of IPv4 and of dual-stack endpoints, by the beginning of the region.
DOMAINS_BY_REGION_PREFIX: Final = {"cn-": ("amazonaws.com.cn", "api.amazonwebservices.com.cn")}
DEFAULT_DOMAINS: Final = ("amazonaws.com", "api.aws")

CREDENTIAL_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
)
CREDENTIAL_SETTINGS: Final = (
    *("role_arn", "sso_session", "sso_start_url", "credential_process", "login_session", "aws_access_key_id"),
)
BOARD_VENDOR: Final = Path("/sys/class/dmi/id/board_vendor")


class Service(NamedTuple):
    """An AWS service: its names for signatures, for settings (``AWS_ENDPOINT_URL_…``), and of its servers.

    Hostnames have ``{fips}`` and ``{region}``; ``fips_only_region`` is a region whose only address is FIPS already.
    """

    signing_name: str
    setting: str
    hostname: str
    dualstack_hostname: str
    fips_only_region: str = ""
    takes_api_keys: bool = False


def profile_name(chosen: str | None) -> str:
    """Return the profile in use: the chosen one, else that of the environment, else ``default``."""
    return chosen or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"


def find_region(chosen: str | None, url: str | None, profile: str) -> str | None:
    """Return the chosen region, else that of an AWS address, ``AWS_REGION``, ``AWS_DEFAULT_REGION``, or the profile."""
    host_region = REGION_IN_HOST.search(url) if url else None
    return (
        chosen
        or (host_region[1] if host_region else None)
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or _profile_settings(profile).get("region")
    )


def configured_url(service: Service, profile: str) -> str | None:
    """Return the address that the environment or the profile names instead of AWS' own."""
    if _is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        return None
    if url := os.environ.get(f"AWS_ENDPOINT_URL_{service.setting}") or os.environ.get("AWS_ENDPOINT_URL"):
        return url
    settings = _profile_settings(profile)
    services = _section(f"services {settings['services']}") if "services" in settings else {}
    nested = re.search(r"^\s*endpoint_url\s*=\s*(\S+)", services.get(service.setting.lower(), ""), re.MULTILINE)
    return nested[1] if nested else settings.get("endpoint_url")


def default_url(service: Service, region: str, *, fips: bool | None, dualstack: bool | None) -> str:
    """Return AWS' address in a region; ``None`` leaves a choice to ``AWS_USE_FIPS_ENDPOINT`` and its like."""
    fips = _is_on("AWS_USE_FIPS_ENDPOINT") if fips is None else fips
    dualstack = _is_on("AWS_USE_DUALSTACK_ENDPOINT") if dualstack is None else dualstack
    domains = next(
        (domains for prefix, domains in DOMAINS_BY_REGION_PREFIX.items() if region.startswith(prefix)), DEFAULT_DOMAINS
    )
    suffix = "-fips" if fips and (dualstack or region != service.fips_only_region) else ""
    host = (service.dualstack_hostname if dualstack else service.hostname).format(fips=suffix, region=region)
    return f"https://{host}.{domains[1 if dualstack else 0]}"


def has_credentials(profile: str) -> bool:
    """Whether there is a source of credentials. Reads files of this machine, and sends nothing."""
    if any(os.environ.get(name) for name in CREDENTIAL_VARIABLES):
        return True
    credentials_file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    settings = _profile_settings(profile)
    if profile in _parse_file(credentials_file) or any(name in settings for name in CREDENTIAL_SETTINGS):
        return True
    return not _is_on("AWS_EC2_METADATA_DISABLED") and _read_text(BOARD_VENDOR).startswith("Amazon EC2")


def _profile_settings(name: str) -> Mapping[str, str]:
    return _section("default" if name == "default" else f"profile {name}")


def _section(name: str) -> Mapping[str, str]:
    parser = _parse_file(Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser())
    return dict(parser[name]) if name in parser else {}


def _parse_file(path: Path) -> configparser.RawConfigParser:
    """Read a file as far as possible; botocore names its faults when it needs it."""
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(_read_text(path))
    except configparser.Error:
        parser.clear()
    return parser


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true")
