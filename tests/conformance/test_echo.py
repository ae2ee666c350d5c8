"""The built-in backend keeps the contract it stands for."""

from llama4sdk.echo import EchoBackend
from llama4sdk.testing import BackendConformance


class TestEcho(BackendConformance):
    """The kit, on ``echo``."""

    backend = EchoBackend
