"""AWS' wire formats for the fakes: frames of event streams, signatures, service models."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from urllib.parse import unquote

import botocore.loaders
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE123456789", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message of ``application/vnd.amazon.eventstream`` whose headers are all strings."""
    head = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


def event(name: str, payload: object) -> bytes:
    """An event frame with AWS' form of JSON."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode())


def exception(name: str, message: str) -> bytes:
    """The frame of a modelled exception."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}, separators=(",", ":")).encode())


def error(code: str, message: str) -> bytes:
    """The frame of an error that is not modelled."""
    return frame({":message-type": "error", ":error-code": code, ":error-message": message}, b"")


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def check_signature(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Mapping[str, str],
    now: datetime,
    service: str,
) -> None:
    """Compare the signature with botocore's. Raises RefusedError as AWS does."""
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=(\S+), "
        r"Signature=([0-9a-f]{64})",
        headers.get("authorization", ""),
    )
    if match is None:
        raise RefusedError(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    key, _, region, signed_for, names, signature = match.groups()
    if key not in secrets:
        raise RefusedError(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    stamp = headers["x-amz-date"]
    age = (now - datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)).total_seconds()
    if abs(age) > 300:
        ago = "Signature expired" if age > 0 else "Signature not yet current"
        raise RefusedError(403, "InvalidSignatureException", f"{ago}: {stamp} is not near {now:%Y%m%dT%H%M%SZ}")
    request = AWSRequest(method=method, url=url, headers={name: headers[name] for name in names.split(";")}, data=body)
    request.context["timestamp"] = stamp
    signer = SigV4Auth(Credentials(key, secrets[key]), service, region)
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if expected != signature or signed_for != service or "host" not in names.split(";"):
        text = signer.canonical_request(request)
        raise RefusedError(
            403,
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            f"Access Key and signing method.\n\nThe Canonical String for this request should have been\n'{text}'",
        )


@cache
def model(service: str) -> ServiceModel:
    """AWS' own description of a service."""
    return ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)


def check_shape(service: str, operation: str, parameters: dict[str, object]) -> None:
    """Validate a request by AWS' service model. Raises RefusedError."""
    report = ParamValidator().validate(parameters, model(service).operation_model(operation).input_shape)
    if report.has_errors():
        raise RefusedError(400, "ValidationException", report.generate_report())


def label(path: str, index: int) -> str:
    """One label of a path, decoded."""
    return unquote(path.split("/")[index])
