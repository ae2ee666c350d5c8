"""The template keeps the contract it teaches."""

from llama4sdk_example.backend import ExampleBackend

from llama4sdk.testing import BackendConformance


class TestExample(BackendConformance):
    """The kit, on the example."""

    backend = ExampleBackend
    prompt = beginning = "Four score and"
