"""The plugin: one hook, and nothing imported but the core."""

from llama4sdk.backend import BackendInfo, Capabilities
from llama4sdk.hookspecs import hookimpl


@hookimpl
def llama4sdk_backends() -> list[BackendInfo]:
    """The one backend this package brings."""
    return [
        BackendInfo(
            name="example",
            summary="Continues text the way the Gettysburg Address would.",
            cls="llama4sdk_example.backend:ExampleBackend",
            models=("gettysburg",),
            capabilities=Capabilities(
                features=frozenset({"chat", "generate", "count_tokens"}),
                sampling=frozenset({"max_tokens", "temperature", "seed", "stop"}),
            ),
        )
    ]
