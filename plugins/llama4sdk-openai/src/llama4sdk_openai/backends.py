"""One backend class for each profile, made when it is imported: ``TogetherBackend``, ``VllmServerBackend``, …"""

from __future__ import annotations

from functools import cache

from llama4sdk_openai.backend import OpenAIProtocolBackend
from llama4sdk_openai.profiles import load_profiles


def __getattr__(name: str) -> type[OpenAIProtocolBackend]:
    for profile in load_profiles().values():
        if profile.class_name == name:
            return _backend_class(profile.name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


@cache
def _backend_class(backend: str) -> type[OpenAIProtocolBackend]:
    profile = load_profiles()[backend]
    members = {"name": backend, "__doc__": profile.summary, "__module__": __name__}
    return type(profile.class_name, (OpenAIProtocolBackend,), members)
