"""Amazon Bedrock and SageMaker. Importing this loads no botocore: only an engine does."""

from llama4sdk.backend import BackendInfo, Capabilities
from llama4sdk.hookspecs import hookimpl

__all__ = ["BEDROCK", "SAGEMAKER", "llama4sdk_backends"]

#: Capabilities of the service; an offer has those of one model.
BEDROCK = Capabilities(
    features=frozenset({"generate", "chat", "images", "tools", "embed", "count_tokens", "astream"}),
    sampling=frozenset({"max_tokens", "temperature", "top_p", "stop"}),
    remote=True,
)
#: Capabilities of containers in general; an offer has those of one dialect.
SAGEMAKER = Capabilities(
    features=frozenset({"generate", "chat", "images", "tools", "astream"}),
    sampling=frozenset({"max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop"}),
    remote=True,
)


@hookimpl
def llama4sdk_backends() -> list[BackendInfo]:
    """Describe both backends."""
    return [
        BackendInfo(
            name="bedrock",
            summary="Asks models on Amazon Bedrock: Converse, InvokeModel, embeddings.",
            cls="llama4sdk_aws.bedrock:BedrockBackend",
            requires=("botocore",),
            install="pip install llama4sdk-aws",
            capabilities=BEDROCK,
        ),
        BackendInfo(
            name="sagemaker",
            summary="Asks a SageMaker endpoint of your own that runs LMI (vLLM) or TGI.",
            cls="llama4sdk_aws.sagemaker:SageMakerBackend",
            requires=("botocore",),
            install="pip install llama4sdk-aws",
            capabilities=SAGEMAKER,
        ),
    ]
