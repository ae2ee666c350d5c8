"""Backends for every endpoint that speaks OpenAI's protocol. Importing this loads no HTTP library."""

from llama4sdk.backend import BackendInfo
from llama4sdk.hookspecs import hookimpl
from llama4sdk_openai.profiles import profiles

__all__ = ["llama4sdk_backends"]


@hookimpl
def llama4sdk_backends() -> list[BackendInfo]:
    """One card for each profile."""
    return [
        BackendInfo(
            name=one.name,
            summary=one.summary,
            cls=f"llama4sdk_openai.backends:{_class(one.name)}",
            capabilities=one.capabilities,
        )
        for one in profiles().values()
    ]


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-")) + "Backend"
