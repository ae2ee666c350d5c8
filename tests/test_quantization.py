"""Schemes and configs: what can be said, what is refused, and how many bytes it takes."""

from __future__ import annotations

import pytest

from llama4sdk import Client, Plan, Quantization, QuantizationConfig
from llama4sdk.backend import Need
from llama4sdk.catalog import models
from llama4sdk.errors import ConfigurationError
from llama4sdk.llama4.sizes import weight_bytes
from llama4sdk.plan import Placement
from llama4sdk.quantization import MatrixFormat
from llama4sdk.session.validation import need

INT4, INT8, FP8, BF16, FP32 = (Quantization(name) for name in ("int4", "int8", "fp8", "bf16", "fp32"))

CONFIGS = [
    QuantizationConfig.of("int4"),
    QuantizationConfig.of("int4-g32"),
    QuantizationConfig.of("int8/fp32"),
    QuantizationConfig.of("fp32"),
    QuantizationConfig(experts=INT4, attention=INT8, group_size=64),
    QuantizationConfig(experts=FP8, dtype=FP32, head=INT8),
]


@pytest.mark.parametrize("scheme", list(Quantization))
def test_a_scheme_stands_for_a_config(scheme: Quantization) -> None:
    """Alone it quantizes all linear layers and leaves router, norms, embedding, head and vision as they were."""
    config = QuantizationConfig.of(scheme)
    assert {config.attention, config.experts, config.shared_expert, config.dense} == {scheme}
    assert {config.router, config.norms, config.embedding, config.head, config.vision} == {config.dtype}
    assert config.full_precision is scheme.full_precision
    assert (config.simplest, str(config)) == (scheme, scheme.value)


def test_what_is_not_named_keeps_full_precision() -> None:
    """A config names what is quantized; its dtype is that of all the rest."""
    config = QuantizationConfig(experts=INT4, dtype=FP32)
    assert (config.experts, config.attention, config.router) == (INT4, FP32, FP32)
    assert str(config) == "experts int4, the rest fp32"


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_configs_travel_as_json_and_as_names(config: QuantizationConfig) -> None:
    """A plan's JSON gives the same plan back; where a config has a name, the name gives the config back."""
    plan = Plan(
        model="m",
        backend="b",
        placement=Placement(kind="local", devices=("cpu",)),
        quantization=config.simplest,
        context_length=1,
        capabilities={},  # type: ignore[arg-type]  # pydantic makes one of it
    )
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert Need.model_validate_json(Need(quantization=config).model_dump_json()).quantization == config
    if "," not in str(config):
        assert QuantizationConfig.of(str(config)) == config


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"router": "int4"}, "decides which expert runs"),
        ({"norms": "int8"}, "norms"),
        ({"vision": "fp8"}, "vision"),
        ({"experts": "int3"}, "int3"),
        ({"attention": "fp32"}, "dtype='fp32'"),
        ({"dtype": "int8"}, "activations"),
        ({"experts": "int4", "group_size": 48}, "48"),
        ({"experts": "int8", "group_size": 32}, "group_size"),
        ({"expert": "int4"}, "expert"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, object], named: str) -> None:
    """Router, norms and vision stay whole; unknown schemes, groups and modules are named, with those that exist."""
    with pytest.raises(ConfigurationError, match=named) as raised:
        QuantizationConfig(**fields)  # type: ignore[arg-type]
    assert "shared_expert" in str(raised.value.hint)


@pytest.mark.parametrize("name", ["int3", "int8-g32", "int4-g33", "int4/int4", "int4 ", "4bit", ""])
def test_names_that_stand_for_nothing_are_refused(name: str) -> None:
    """By the client too, before anything is done."""
    with pytest.raises(ConfigurationError) as raised:
        Client("demo", quantization=name)
    assert "int4" in str(raised.value.hint)


def test_a_client_takes_names_schemes_and_configs() -> None:
    """Equivalent quantizations make equal needs; one scheme stands for a configuration wherever it says it all."""
    assert need("m", None, "int4", None) == need("m", None, INT4, None)
    assert need("m", None, QuantizationConfig.of("int4"), None).quantization is INT4
    mixed = QuantizationConfig(experts=INT4, attention=INT8)
    assert need("m", None, mixed, None).quantization is mixed


@pytest.mark.parametrize(
    ("form", "shape", "size"),
    [
        (MatrixFormat(scheme=BF16), (3, 5), 30),
        (MatrixFormat(scheme=INT8), (3, 5), 15 + 3 * 4),
        (MatrixFormat(scheme=INT8, group_size=32, scale=Quantization.FP16), (3, 64), 192 + 3 * 2 * 2),
        (MatrixFormat(scheme=INT4, group_size=32, scale=BF16), (2, 33), 2 * 17 + 2 * 2 * 2),
        (MatrixFormat(scheme=INT4, group_size=32, scale=Quantization.FP16, minimum=True), (2, 64), 64 + 2 * 2 * 4),
    ],
)
def test_bytes_of_a_matrix(form: MatrixFormat, shape: tuple[int, int], size: int) -> None:
    """Codes, scales and minima, with a half byte lost in odd rows and a short last group."""
    assert form.bytes(*shape) == size


def test_bytes_of_scout_with_a_scheme_for_each_class() -> None:
    """Parts add up to those of the specification: experts in int4 with groups of 32, the head in int8."""
    assert models.SCOUT.config is not None
    bf16 = weight_bytes(models.SCOUT.config, BF16)
    experts = weight_bytes(models.SCOUT.config, QuantizationConfig(experts=INT4, group_size=32))
    assert bf16 - experts == 96_636_764_160 * 2 - 96_636_764_160 // 2 - 96_636_764_160 // 32 * 2
    head = weight_bytes(models.SCOUT.config, QuantizationConfig(head=INT8))
    assert bf16 - head == 202_048 * 5120 - 202_048 * 4
    assert models.SCOUT.weight_bytes(QuantizationConfig.of("int4-g32")) == 65_344_924_672


def test_classes_of_modules_in_one_name() -> None:
    """The command line's notation gives the configuration that Python would write."""
    named = QuantizationConfig.of("experts=int4, attention=int8,group_size=32")
    assert named == QuantizationConfig(experts=Quantization.INT4, attention=Quantization.INT8, group_size=32)
