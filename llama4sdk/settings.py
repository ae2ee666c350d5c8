"""Every environment variable the SDK reads. Nothing is read at import."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from llama4sdk.errors import ConfigurationError

#: Where keys to endpoints are, beside AWS', Google's and Hugging Face's.
KEYS: Final = (
    *("OPENAI_API_KEY", "TOGETHER_API_KEY", "TOGETHERAI_API_KEY", "VLLM_API_KEY", "SGLANG_API_KEY", "LLAMA_API_KEY"),
    *("LM_API_TOKEN", "TGI_API_KEY", "AZURE_AI_CHAT_KEY", "AZURE_INFERENCE_CREDENTIAL", "AZURE_AI_API_KEY"),
    *("FIREWORKS_API_KEY", "DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN", "OPENROUTER_API_KEY", "GROQ_API_KEY"),
    *("ANYSCALE_API_KEY", "OLLAMA_API_KEY"),
)

#: Where endpoints are, and how they are reached; beside all of AWS' variables.
ADDRESSES: Final = (
    *("OPENAI_BASE_URL", "VLLM_BASE_URL", "SGLANG_BASE_URL", "LLAMACPP_BASE_URL", "LMSTUDIO_BASE_URL", "TGI_BASE_URL"),
    *("TOGETHER_BASE_URL", "FIREWORKS_BASE_URL", "DEEPINFRA_BASE_URL", "OPENROUTER_BASE_URL", "GROQ_BASE_URL"),
    *("ANYSCALE_BASE_URL", "AZURE_AI_CHAT_ENDPOINT", "AZURE_INFERENCE_ENDPOINT", "AZURE_AI_API_BASE", "OLLAMA_HOST"),
    *("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "VERTEXAI_LOCATION", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)

#: Variables of others that change what runs here.
OTHERS: Final = frozenset(
    {
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
        *("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE"),
        *("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"),
        *("OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
        *ADDRESSES,
        *KEYS,
    }
)


def home() -> Path:
    """Where weights are kept: ``LLAMA4SDK_HOME``, or the user's cache directory."""
    from platformdirs import user_cache_path

    return _path("LLAMA4SDK_HOME") or user_cache_path("llama4sdk")


def hardware_file() -> Path | None:
    """``LLAMA4SDK_HARDWARE``: plan for the machine in this file instead of this one."""
    return _path("LLAMA4SDK_HARDWARE")


def endpoints_file() -> Path | None:
    """``LLAMA4SDK_ENDPOINTS``: a CSV file that overrides what is known of endpoints, row by row."""
    return _path("LLAMA4SDK_ENDPOINTS")


def enabled_plugins() -> frozenset[str] | None:
    """``LLAMA4SDK_PLUGINS``: load only these (comma-separated entry point names); unset loads all."""
    value = os.environ.get("LLAMA4SDK_PLUGINS")
    return None if value is None else _names(value)


def disabled_plugins() -> frozenset[str]:
    """``LLAMA4SDK_DISABLE_PLUGINS``: never load these."""
    return _names(os.environ.get("LLAMA4SDK_DISABLE_PLUGINS", ""))


def offer_deadline() -> float:
    """``LLAMA4SDK_OFFER_DEADLINE``: seconds all backends together may take to make their offers."""
    value = os.environ.get("LLAMA4SDK_OFFER_DEADLINE", "5")
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"LLAMA4SDK_OFFER_DEADLINE must be a positive number of seconds, not {value!r}.")
    return seconds


def private_image_urls() -> bool:
    """``LLAMA4SDK_PRIVATE_IMAGE_URLS=1``: images may be fetched from this machine's own network, too."""
    value = os.environ.get("LLAMA4SDK_PRIVATE_IMAGE_URLS", "0")
    if value not in ("0", "1", ""):
        raise ConfigurationError(f"LLAMA4SDK_PRIVATE_IMAGE_URLS must be 0 or 1, not {value!r}.")
    return value == "1"


def hub_cache() -> Path:
    """Where Hugging Face tools keep models: ``HF_HUB_CACHE``, ``HF_HOME``/hub, or the user's cache directory."""
    return _path("HF_HUB_CACHE") or _hugging_face_home() / "hub"


def hub_token_file() -> Path:
    """Where Hugging Face tools keep the token: ``HF_TOKEN_PATH``, ``HF_HOME``/token, or the user's cache directory."""
    return _path("HF_TOKEN_PATH") or _hugging_face_home() / "token"


def in_use() -> dict[str, str]:
    """The variables that are set and change what runs here, with their values; a secret's value is never among them."""
    names = sorted(name for name in os.environ if name.startswith(("LLAMA4SDK_", "AWS_")) or name.upper() in OTHERS)
    return {name: "(set)" if _secret(name) else _public(os.environ[name]) for name in names}


def _hugging_face_home() -> Path:
    return _path("HF_HOME") or (_path("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def _secret(name: str) -> bool:
    return any(word in name.upper() for word in ("TOKEN", "KEY", "SECRET", "PASSWORD", "CREDENTIAL"))


def _public(value: str) -> str:
    """An address without its user, password and query."""
    if not value.startswith(("/", "~", ".")):  # a path
        value = re.sub(r"^(\w+://)?.*@", r"\1", value)
    return re.sub(r"(://[^?]*)\?.*", r"\1", value)


def _names(value: str) -> frozenset[str]:
    return frozenset(name.strip() for name in value.split(",") if name.strip())
