"""Backends for endpoints that speak OpenAI's protocol. Importing this loads no HTTP library."""

from llama4sdk.backend import BackendInfo
from llama4sdk.hookspecs import hookimpl
from llama4sdk_openai.profiles import load_profiles

__all__ = ["llama4sdk_backends"]


@hookimpl
def llama4sdk_backends() -> list[BackendInfo]:
    """Describe one backend for each profile."""
    return [
        BackendInfo(
            name=profile.name,
            summary=profile.summary,
            cls=f"llama4sdk_openai.backends:{profile.class_name}",
            capabilities=profile.capabilities,
        )
        for profile in load_profiles().values()
    ]
