"""Replace a transformers model's network by the traceable one while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from optimum.exporters.onnx.model_patcher import ModelPatcher
from torch import Tensor, nn

from llama4sdk_optimum.network import KeysValues, hidden_states

if TYPE_CHECKING:
    from optimum.exporters.onnx import OnnxConfigWithPast
    from transformers import PreTrainedModel
    from transformers.models.llama4.modeling_llama4 import Llama4TextModel

Outputs = dict[str, Tensor | list[KeysValues]]


class Llama4Patcher(ModelPatcher):
    """A context in which the model runs the traceable network, with the weights of each expert as a parameter."""

    def __init__(
        self, config: OnnxConfigWithPast, model: PreTrainedModel, model_kwargs: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(config, model, dict(model_kwargs or {}))
        network = cast("Llama4TextModel", getattr(model, "model", model))
        _read_rotary_parameters(network)
        self.patched_forward = _traceable_forward(network, getattr(model, "lm_head", None), with_past=config.use_past)
        self._experts: list[Any] = [module for module in model.modules() if hasattr(module, "gate_up_proj")]

    def __enter__(self) -> None:
        super().__enter__()
        for experts in self._experts:
            experts.gate_up = nn.ParameterList(_expert_parameters(experts.gate_up_proj))
            experts.down = nn.ParameterList(_expert_parameters(experts.down_proj))

    def __exit__(self, *raised: object) -> None:
        for experts in self._experts:
            del experts.gate_up, experts.down
        super().__exit__(*raised)


def _expert_parameters(stacked: Tensor) -> list[nn.Parameter]:
    """The weights of each expert, without a copy."""
    return [nn.Parameter(weights, requires_grad=False) for weights in stacked.detach().unbind()]


def _read_rotary_parameters(network: Llama4TextModel) -> None:
    """Apply the rotary parameters of a config from transformers 5, which the versions that optimum runs with ignore."""
    config: Any = network.config
    parameters = getattr(config, "rope_parameters", None)
    if parameters and config.rope_scaling is None:
        config.rope_theta = parameters["rope_theta"]
        config.rope_scaling = None if parameters["rope_type"] == "default" else dict(parameters)
        network.rotary_emb = type(network.rotary_emb)(config)


def _traceable_forward(network: Llama4TextModel, head: nn.Linear | None, *, with_past: bool) -> Callable[..., Outputs]:
    """The function that replaces ``model.forward``; its parameters are the names of the graph's inputs."""

    def forward(
        input_ids: Tensor, attention_mask: Tensor, past_key_values: Sequence[KeysValues] | None = None
    ) -> Outputs:
        states, present = hidden_states(network, input_ids, attention_mask, past_key_values)
        outputs: Outputs = {"last_hidden_state": states} if head is None else {"logits": head(states)}
        return outputs | ({"past_key_values": present} if with_past else {})

    return forward
