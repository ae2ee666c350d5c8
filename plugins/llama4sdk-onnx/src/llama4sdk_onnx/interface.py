"""Inputs and outputs of the exported graphs: the agreement between what writes graphs and what runs them.

The text graph, for ``batch`` sequences of which each gets ``tokens`` more:

    input_ids           int64 [batch, tokens]
    positions           int64 [batch, tokens]           absolute: 0 is a sequence's first token
    logits_at           int64 [rows]                    of the flattened [batch * tokens] states, which become logits
    image_features      float [features, hidden]        networks that see: what stands for the image tokens of
                                                        input_ids, in order; no rows where there are none
    past_key_values.{layer}.key, .value                 float [batch, kv_heads, slots, dim]

    logits              float32 [rows, vocabulary]
    hidden_states       float [batch, tokens, hidden]   after the last norm
    present.{layer}.key, .value                         as the past

Fast graphs share one buffer between past and present: a layer writes the new tokens behind those it has, in place.
Layers that see everything count these by ``global_*``, layers that see their own chunk by ``local_*``, which begin
again at each border; no run may cross one. So a new chunk overwrites the old, which is never read again.

    global_last, local_last      int32 [batch]          the slot of each sequence's last token after this run
    global_total, local_total    int32 [1]              the longest of the sequences after this run

Without chunked layers there are no ``local_*``. More than one token of more than one sequence may be given only to
empty caches; ``last`` then says where each sequence ends, and what is behind is padding.

Portable graphs have none of these four, and run one sequence at a time: ``past`` holds what a token sees (nothing, for
a chunked layer at a border) and ``present`` is that with the new tokens behind it.

The vision graph:

    pixels              uint8 [tiles, channels, side, side]
    features            float [tiles * tokens_per_tile, hidden]
"""

from __future__ import annotations

from typing import Final

IDS: Final = "input_ids"
POSITIONS: Final = "positions"
LOGITS_AT: Final = "logits_at"
IMAGES: Final = "image_features"
GLOBAL_LAST: Final = "global_last"
GLOBAL_TOTAL: Final = "global_total"
LOCAL_LAST: Final = "local_last"
LOCAL_TOTAL: Final = "local_total"
LOGITS: Final = "logits"
HIDDEN: Final = "hidden_states"
PIXELS: Final = "pixels"
FEATURES: Final = "features"


def past(layer: int) -> tuple[str, str]:
    """The names of a layer's keys and values as inputs."""
    return f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"


def present(layer: int) -> tuple[str, str]:
    """The names of a layer's keys and values as outputs."""
    return f"present.{layer}.key", f"present.{layer}.value"
