"""One class for each profile: the registry finds a backend by its class."""

from __future__ import annotations

from typing import ClassVar

from llama4sdk_openai.backend import OpenAIProtocolBackend

__all__ = [
    "AnyscaleBackend",
    "AzureBackend",
    "DeepinfraBackend",
    "FireworksBackend",
    "GroqBackend",
    "HuggingfaceBackend",
    "LlamacppServerBackend",
    "LmstudioBackend",
    "OpenaiBackend",
    "OpenrouterBackend",
    "SglangBackend",
    "TgiBackend",
    "TogetherBackend",
    "VertexBackend",
    "VllmServerBackend",
]


class OpenaiBackend(OpenAIProtocolBackend):
    """Any address."""

    name: ClassVar[str] = "openai"


class TogetherBackend(OpenAIProtocolBackend):
    """Together AI."""

    name: ClassVar[str] = "together"


class VllmServerBackend(OpenAIProtocolBackend):
    """A vLLM server."""

    name: ClassVar[str] = "vllm-server"


class SglangBackend(OpenAIProtocolBackend):
    """An SGLang server."""

    name: ClassVar[str] = "sglang"


class LlamacppServerBackend(OpenAIProtocolBackend):
    """A llama-server."""

    name: ClassVar[str] = "llamacpp-server"


class LmstudioBackend(OpenAIProtocolBackend):
    """LM Studio."""

    name: ClassVar[str] = "lmstudio"


class TgiBackend(OpenAIProtocolBackend):
    """Text Generation Inference."""

    name: ClassVar[str] = "tgi"


class AzureBackend(OpenAIProtocolBackend):
    """Azure AI Foundry."""

    name: ClassVar[str] = "azure"


class VertexBackend(OpenAIProtocolBackend):
    """Google Vertex AI."""

    name: ClassVar[str] = "vertex"


class HuggingfaceBackend(OpenAIProtocolBackend):
    """Hugging Face's router."""

    name: ClassVar[str] = "huggingface"


class FireworksBackend(OpenAIProtocolBackend):
    """Fireworks."""

    name: ClassVar[str] = "fireworks"


class DeepinfraBackend(OpenAIProtocolBackend):
    """DeepInfra."""

    name: ClassVar[str] = "deepinfra"


class OpenrouterBackend(OpenAIProtocolBackend):
    """OpenRouter."""

    name: ClassVar[str] = "openrouter"


class GroqBackend(OpenAIProtocolBackend):
    """Groq."""

    name: ClassVar[str] = "groq"


class AnyscaleBackend(OpenAIProtocolBackend):
    """A service on Anyscale."""

    name: ClassVar[str] = "anyscale"
