"""Predictions beside published figures: every row, misses included.

``published.csv`` holds what engines printed, makers announced and users measured of Llama 4, each with its source, its
date and how near a prediction has to come. Rows of the same engine helped to find its calibration: a hit among them
says that the model has the right shape, not that it foresaw them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

from benchmarks.scorecard.memory_predictions import PREDICT, NotPredictedError
from benchmarks.scorecard.old_engines import old_calibrations
from benchmarks.scorecard.published import Metric, Published, published
from llama4sdk._values import Value
from llama4sdk.capacity import roofline
from llama4sdk.capacity.gguf_sizes import GGUF_MIXES, gguf_bytes, gguf_class_bytes
from llama4sdk.capacity.kv_policies import find_policy
from llama4sdk.capacity.roofline import Calibration, ClassBytes, Interval, NetworkPart, Site
from llama4sdk.capacity.sites import calibrations
from llama4sdk.catalog import models
from llama4sdk.catalog.accelerators import Accelerator, find_accelerator
from llama4sdk.llama4 import sizes
from llama4sdk.llama4.config import TextConfig
from llama4sdk.quantization import LINEAR, ModuleClass, Quantization

__all__ = ["Metric", "Published", "Score", "published", "score"]

EVERYTHING: Final[frozenset[ModuleClass]] = frozenset(
    {"attention", "experts", "shared_expert", "dense", "router", "norms", "embedding", "head"}
)
#: NVFP4: a byte of scale for each 16 values.
FP4_BITS: Final = 4.5

#: Requests that an engine answers at once, at most.
MAX_BATCH: Final = 2048

#: The share of a device's memory that a serving engine takes.
UTILIZATION: Final = 0.9

#: Bytes of that which the runtime needs for itself, on each device.
WORKSPACE: Final = 4_000_000_000


class Score(Value):
    """A prediction beside what was published; ``low`` and ``high`` where it is an interval.

    ``predicted`` is ``None`` where nothing is predicted; ``reason`` then says why, or why a claim does not hold.
    """

    row: Published
    predicted: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def hit(self) -> bool | None:
        """Whether it is as near as the row asks; ``None`` without a prediction."""
        return None if self.predicted is None else self._near(self.predicted) != bool(self.row.claim)

    def _near(self, predicted: float) -> bool:
        if self.row.tolerance == "at least":
            return predicted >= self.row.value
        if factor := re.fullmatch(r"(\d+)x", self.row.tolerance):
            ratio = predicted / self.row.value
            return 1 / float(factor[1]) <= ratio <= float(factor[1])
        share = 0.0 if self.row.tolerance == "exact" else float(self.row.tolerance.rstrip("%")) / 100
        return abs(predicted - self.row.value) <= share * self.row.value


def score() -> tuple[Score, ...]:
    """Predict every row."""
    return tuple(_score(row) for row in published())


def _score(row: Published) -> Score:
    spec = models.find(row.model)
    assert spec is not None
    assert spec.config is not None
    predict: Mapping[Metric, Callable[[Published, TextConfig], Score]] = {
        "parameters": _parameters,
        "active_parameters": _active,
        "weights": _weights,
        "kv_cache": _kv_cache,
        "decode_speed": _decode,
        "prefill_speed": _prefill,
        "served_speed": _served,
    }
    try:
        if row.metric in PREDICT:
            return Score(row=row, predicted=PREDICT[row.metric](row, spec), reason=row.claim)
        return predict[row.metric](row, spec.config)
    except NotPredictedError as why:
        return Score(row=row, predicted=None, reason=str(why))


def _parameters(row: Published, config: TextConfig) -> Score:
    divisors = config.head_dim // 2 if row.weights == "GGUF" and config.rope_scaling else 0  # a GGUF file stores them
    return Score(row=row, predicted=sizes.parameters(config) + divisors)


def _active(row: Published, config: TextConfig) -> Score:
    """Bytes read for each token; of the embedding that is one row."""
    ones = {linear.module: 0 for linear in sizes.linears(config)}
    for linear in sizes.linears(config):
        ones[linear.module] += linear.parameters
    return Score(row=row, predicted=roofline.step_bytes(config, ones, EVERYTHING))


def _weights(row: Published, config: TextConfig) -> Score:
    if row.weights not in GGUF_MIXES:
        raise NotPredictedError("the publisher chose formats tensor by tensor; only the file's header knows")
    return Score(row=row, predicted=gguf_bytes(config, row.weights))


def _kv_cache(row: Published, config: TextConfig) -> Score:
    size = find_policy(row.engine).bytes(config, row.context or 0, value_bytes=row.kv_bytes)
    return Score(row=row, predicted=size)


def _decode(row: Published, config: TextConfig) -> Score:
    speed = roofline.decode_speed(
        config, _class_bytes(row, config), _parts(row), context=row.context or 128, value_bytes=row.kv_bytes
    )
    return Score(row=row, predicted=speed.middle, low=speed.low, high=speed.high)


def _prefill(row: Published, config: TextConfig) -> Score:
    speed = roofline.prefill_speed(config, _parts(row), tokens=(row.prompt or 512) + 2 * (row.context or 0))
    return Score(row=row, predicted=speed.middle, low=speed.low, high=speed.high)


def _served(row: Published, config: TextConfig) -> Score:
    weights = _class_bytes(row, config)
    (part,) = _parts(row)
    prompt, answer = row.prompt or 0, row.answer or 0
    memory = find_accelerator(row.device).memory * UTILIZATION - WORKSPACE
    pool = int(memory * row.devices) - sum(weights.values())
    request = find_policy("vllm-0.14").bytes(config, prompt + answer, value_bytes=row.kv_bytes)
    batch = row.concurrency or largest_batch(pool, request)
    speed = served_speed(config, weights, part, prompt=prompt, answer=answer, batch=batch, value_bytes=row.kv_bytes)
    return Score(row=row, predicted=speed.middle, low=speed.low, high=speed.high)


def served_speed(
    config: TextConfig,
    weights: ClassBytes,
    part: NetworkPart,
    *,
    prompt: int,
    answer: int,
    batch: int,
    value_bytes: float = 2,
) -> Interval:
    """Tokens per second of all answers together, of a server that always has ``batch`` requests of this size."""
    context = prompt + answer // 2
    decode = roofline.decode_speed(config, weights, [part], context=context, batch=batch, value_bytes=value_bytes)
    prefill = roofline.prefill_speed(config, [part], tokens=max(1, prompt))
    reading = prompt / answer  # tokens of prompts for each token of answers
    return Interval(
        low=1 / (1 / decode.low + reading / prefill.low),
        high=1 / (1 / decode.high + reading / prefill.high),
    )


def largest_batch(pool: int, request_bytes: int) -> int:
    """Requests that a cache of ``pool`` bytes holds at once; at least one, at most 2048."""
    return max(1, min(MAX_BATCH, pool // max(1, request_bytes)))


def _class_bytes(row: Published, config: TextConfig) -> ClassBytes:
    """Bytes by class of modules; a publisher's own mix is the plain one, scaled to the size of the file."""
    if row.weights == "nvfp4":
        halves = sizes.class_bytes(config, Quantization.BF16)
        return {
            m: int(size * FP4_BITS / 16) if m in LINEAR and m != "attention" else size for m, size in halves.items()
        }
    if row.weights in ("bf16", "fp8"):
        return sizes.class_bytes(config, Quantization(row.weights))
    mix = row.weights if row.weights in GGUF_MIXES else {"UD-Q2_K_XL": "Q2_K"}.get(row.weights, "Q4_K_M")
    plain = gguf_class_bytes(config, mix)
    scale = row.file_gb * 1e9 / sum(plain.values()) if row.file_gb else 1.0
    return {module: int(size * scale) for module, size in plain.items()}


def _parts(row: Published) -> list[NetworkPart]:
    if not row.engine:
        raise NotPredictedError(f"not modelled: {row.note}")
    names = row.device.split(" + ")
    parts = []
    for name in names:
        apart = len(names) > 1
        experts: frozenset[ModuleClass] = frozenset({"experts"})
        modules = (experts if name == "cpu" else EVERYTHING - experts) if apart else EVERYTHING
        if name == "cpu":
            parts.append(NetworkPart(modules=modules, site=_cpu(row), calibration=_calibration(row, "cpu")))
        else:
            accelerator = find_accelerator(name)
            kind: Literal["unified", "accelerator"] = "unified" if accelerator.unified else "accelerator"
            parts.append(
                NetworkPart(modules=modules, site=_site(row, accelerator), calibration=_calibration(row, kind))
            )
    return parts


def _cpu(row: Published) -> Site:
    return Site(name="cpu", bandwidth=int((row.cpu_gbs or 0) * 1e9), flops=(row.cpu_tflops or 0) * 1e12)


def _site(row: Published, accelerator: Accelerator) -> Site:
    scheme = {"nvfp4": "fp4", "fp8": "fp8"}.get(row.weights, "bf16")
    flops = accelerator.flops.get(scheme) or accelerator.flops.get("bf16") or accelerator.flops.get("int8", 0.0)
    together = 1 if row.engine == "llama.cpp" else row.devices  # its layers are split: one device works at a time
    return Site(name=accelerator.name, bandwidth=accelerator.bandwidth * together, flops=flops * together)


def _calibration(row: Published, site: str) -> Calibration:
    for calibration in reversed((*old_calibrations(), *calibrations())):
        if (calibration.engine, calibration.version, calibration.site) == (row.engine, row.version, site):
            return calibration
    raise NotPredictedError(f"nothing is known of {row.engine} {row.version} on this kind of machine")
