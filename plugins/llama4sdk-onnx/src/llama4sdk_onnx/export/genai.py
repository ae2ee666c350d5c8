"""The files by which ONNX Runtime GenAI runs an export: a graph with its inputs, and a description of the model.

GenAI caches the keys and values of all tokens for every layer alike, or of windows that slide token by token. None of
its caches begins again at a chunk's border. Within the first chunk, layers that see their chunk and layers that see
everything are the same, so a context here ends with the first chunk.
"""

from __future__ import annotations

import json
from typing import Final

import numpy as np
import onnx_ir as ir
from pydantic import JsonValue

from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_onnx import interface
from llama4sdk_onnx.export.graphs.builder import GraphBuilder, graph_value

GENAI_GRAPH: Final = "genai.onnx"
GENAI_CONFIG: Final = "genai_config.json"

MASK: Final = "attention_mask"
#: Llama 4's token that pads the shorter texts of a batch.
PADDING: Final = "<|finetune_right_pad|>"


def genai_graph(text: ir.Model) -> ir.Model:
    """A fast text graph without images, with GenAI's inputs and outputs; ``text`` is changed in place.

    input_ids, positions    as in the text graph
    attention_mask          int64 [batch, slots]        1 for each token so far, and behind them 0
    past_key_values.…       as in the text graph, of as many slots for every layer

    logits                  float32 [batch, 1, vocabulary]      of each sequence's last token
    present.…
    """
    graph = text.graph
    inputs = {value.name: value for value in graph.inputs}
    mask = graph_value(MASK, np.int64, "batch", "slots")
    b = GraphBuilder((), np.dtype(np.float32), text.opset_imports[""])
    one = b.op("Constant", value_ints=[1])
    last = b.op("Sub", b.op("ReduceSum", mask, one, keepdims=0), one)  # [batch]
    total = b.op("Shape", mask, start=1)
    slot, slots = b.cast(last, np.int32), b.cast(total, np.int32)
    counts = {
        interface.GLOBAL_LAST: slot,
        interface.GLOBAL_TOTAL: slots,
        interface.LOCAL_LAST: slot,
        interface.LOCAL_TOTAL: slots,
        interface.LOGITS_AT: _last_rows(b, inputs[interface.IDS], last),
    }
    for name, value in counts.items():
        if name in inputs:
            ir.convenience.replace_all_uses_with(inputs[name], value)
            graph.inputs.remove(inputs[name])
    graph.inputs.insert(1, mask)
    front = b.nodes
    graph.insert_before(graph[0], front)
    logits, _, *present = graph.outputs
    graph.outputs[:] = [_batched(b, logits), *present]
    graph.extend(b.nodes[len(front) :])
    for number, node in enumerate(b.nodes[:-1]):  # the text graph's values have names from a builder as well
        node.outputs[0].name = f"genai.{number}"
    return text


def _last_rows(b: GraphBuilder, ids: ir.Value, last: ir.Value) -> ir.Value:
    """The index of each sequence's last token among all tokens of this run, [batch].

    Only a run from the first token on has padding; ``last`` is an index within this run then, and otherwise beyond it.
    """
    batch, tokens = b.op("Shape", ids, end=1), b.op("Shape", ids, start=1)
    zero, one = b.op("Constant", value_int=0), b.op("Constant", value_int=1)
    begins = b.op("Mul", b.op("Range", zero, b.op("Squeeze", batch), one), tokens)
    return b.op("Add", begins, b.op("Min", last, b.op("Sub", tokens, one)))


def _batched(b: GraphBuilder, logits: ir.Value) -> ir.Value:
    """[batch, vocabulary] -> [batch, 1, vocabulary], under the same name."""
    batched = b.op("Unsqueeze", logits, b.op("Constant", value_ints=[1]))
    batched.name, logits.name = logits.name, "last_logits"
    batched.type, batched.shape = logits.type, ir.Shape(["batch", 1, *list(logits.shape or ())[1:]])
    return batched


def genai_config(checkpoint: Checkpoint, tokenizer: Tokenizer) -> str:
    """The text of ``genai_config.json``, as GenAI 0.18 reads it."""
    c, stops = checkpoint.config, sorted(checkpoint.stop_ids)
    defaults = checkpoint.generation_defaults
    context = min(c.max_context, c.chunk_size) if c.chunked_layers and c.chunk_size else c.max_context
    config: dict[str, JsonValue] = {
        "model": {
            "type": "llama",  # GenAI's name for every network of one decoder with these inputs
            "context_length": context,
            "vocab_size": c.vocab_size,
            "eos_token_id": [*stops],
            "pad_token_id": tokenizer.control.get(PADDING, next(iter(stops), 0)),
            **({"bos_token_id": tokenizer.prefix[0]} if tokenizer.prefix else {}),
            "decoder": _decoder(c),
        },
        "search": {
            "max_length": context,
            "do_sample": defaults.temperature > 0,
            "temperature": defaults.temperature,
            "top_p": defaults.top_p,
            "top_k": 0,
            "past_present_share_buffer": True,
        },
    }
    return json.dumps(config, indent=2) + "\n"


def _decoder(c: TextConfig) -> dict[str, JsonValue]:
    past, present = ([name.replace("0", "%d") for name in names(0)] for names in (interface.past, interface.present))
    return {
        "filename": GENAI_GRAPH,
        "session_options": {"provider_options": []},
        "hidden_size": c.hidden_size,
        "head_size": c.head_dim,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "num_hidden_layers": c.num_layers,
        "inputs": {
            "input_ids": interface.IDS,
            "attention_mask": MASK,
            "position_ids": interface.POSITIONS,
            "past_key_names": past[0],
            "past_value_names": past[1],
        },
        "outputs": {"logits": interface.LOGITS, "present_key_names": present[0], "present_value_names": present[1]},
    }
