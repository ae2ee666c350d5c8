"""What the environment and AWS' own files say: region, addresses, sources of credentials. Loads no botocore."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Service", "credentials_in_sight", "default_url", "named_url", "profile_name", "region_of"]

REGION: Final = re.compile(
    r"\.([a-z]{2}(?:-[a-z]+)+-\d)\.(?:vpce\.)?(?:amazonaws\.com|api\.aws|api\.amazonwebservices\.com)"
)

SUFFIXES: Final = {"cn-": ("amazonaws.com.cn", "api.amazonwebservices.com.cn")}
USUAL_SUFFIXES: Final = ("amazonaws.com", "api.aws")

KEY_SOURCES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
)
BOARD_VENDOR: Final = Path("/sys/class/dmi/id/board_vendor")


class Service(NamedTuple):
    """How AWS names one of its services in different places."""

    signing: str
    key: str
    """In ``AWS_ENDPOINT_URL_…`` and, in lower case, in configuration files."""
    host: str
    """Of its endpoint, with ``{fips}`` and ``{region}``."""
    dual_host: str
    """The same where IPv6 is spoken, too."""
    always_fips: str = ""
    """A region whose one address is FIPS already."""


def profile_name(chosen: str | None) -> str:
    """The profile that counts."""
    return chosen or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"


def region_of(chosen: str | None, url: str | None, profile: str) -> str | None:
    """What was asked for, else that of an AWS address, ``AWS_REGION``, ``AWS_DEFAULT_REGION``, or the profile."""
    written = REGION.search(url) if url else None
    return (
        chosen
        or (written[1] if written else None)
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or _profile(profile).get("region")
    )


def named_url(service: Service, profile: str) -> str | None:
    """The address that the environment or the profile names instead of AWS' own."""
    if _is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        return None
    if url := os.environ.get(f"AWS_ENDPOINT_URL_{service.key}") or os.environ.get("AWS_ENDPOINT_URL"):
        return url
    values = _profile(profile)
    services = _section(f"services {values['services']}") if "services" in values else {}
    nested = re.search(r"^\s*endpoint_url\s*=\s*(\S+)", services.get(service.key.lower(), ""), re.MULTILINE)
    return nested[1] if nested else values.get("endpoint_url")


def default_url(service: Service, region: str, *, fips: bool | None, dualstack: bool | None) -> str:
    """AWS' own address in a region; ``None`` leaves both choices to ``AWS_USE_FIPS_ENDPOINT`` and its like."""
    fips = _is_on("AWS_USE_FIPS_ENDPOINT") if fips is None else fips
    dualstack = _is_on("AWS_USE_DUALSTACK_ENDPOINT") if dualstack is None else dualstack
    suffixes = next((found for start, found in SUFFIXES.items() if region.startswith(start)), USUAL_SUFFIXES)
    mark = "-fips" if fips and (dualstack or region != service.always_fips) else ""
    host = (service.dual_host if dualstack else service.host).format(fips=mark, region=region)
    return f"https://{host}.{suffixes[1 if dualstack else 0]}"


def credentials_in_sight(profile: str) -> bool:
    """Whether there is anywhere they could come from. Reads files of this machine, and asks nobody."""
    if any(os.environ.get(name) for name in KEY_SOURCES):
        return True
    shared = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    sources = ("role_arn", "sso_session", "sso_start_url", "credential_process", "login_session", "aws_access_key_id")
    if profile in _parsed(shared) or any(name in _profile(profile) for name in sources):
        return True
    return not _is_on("AWS_EC2_METADATA_DISABLED") and _text(BOARD_VENDOR).startswith("Amazon EC2")


def _profile(name: str) -> Mapping[str, str]:
    return _section("default" if name == "default" else f"profile {name}")


def _section(name: str) -> Mapping[str, str]:
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    return dict(parsed[name]) if name in (parsed := _parsed(path)) else {}


def _parsed(path: Path) -> configparser.RawConfigParser:
    """Whatever is there; botocore says what is wrong with a file when it needs it."""
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(_text(path))
    except configparser.Error:
        parser.clear()
    return parser


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true")
