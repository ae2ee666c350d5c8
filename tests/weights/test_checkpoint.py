"""Opening complete and damaged checkpoints."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from llama4sdk.errors import CheckpointError, WeightsNotFoundError
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.config import RopeScaling
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.vocabulary import control_tokens
from llama4sdk.weights.opening import open_checkpoint
from tests.weights.checkpoints import HF_CONFIG, TINY, VOCABULARY, hf_tensors, unfused, write_gguf, write_hf


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of a small Llama 4 network."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def hf_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as a Hugging Face directory."""
    return write_hf(tmp_path_factory.mktemp("hf") / "tiny", hf_tensors())


def test_both_formats_describe_one_network(gguf_file: Path, hf_directory: Path) -> None:
    """Hyper-parameters from GGUF equal those from config.json, except the chunk size, which GGUF does not state."""
    gguf, hf = open_checkpoint(gguf_file).config, open_checkpoint(hf_directory).config
    assert gguf.chunk_size == 8192
    assert gguf == hf.model_copy(update={"chunk_size": 8192})


def test_both_formats_hold_the_same_values(gguf_file: Path, tmp_path: Path) -> None:
    """Every tensor of the GGUF file, under its common name, has the values of the Hugging Face one."""
    expected = unfused(hf_tensors())
    gguf = open_checkpoint(gguf_file)
    split = open_checkpoint(write_hf(tmp_path / "apart", expected))
    assert gguf.tensors.keys() == split.tensors.keys() == expected.keys()
    for checkpoint in (gguf, split):
        checkpoint.verify()
        for name, values in expected.items():
            assert checkpoint.tensors[name].shape == values.shape
            np.testing.assert_array_equal(checkpoint.read(name).astype(np.float32), values.astype(np.float32))


def test_one_expert_can_be_read_alone(hf_directory: Path) -> None:
    """An index reads one entry of a fused tensor, in its stored precision."""
    checkpoint = open_checkpoint(hf_directory)
    name = "model.layers.1.feed_forward.experts.gate_up_proj"
    expert = checkpoint.read(name, 2)
    assert expert.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(expert, hf_tensors()[name][2])


def test_quantized_values_are_unpacked(tmp_path: Path) -> None:
    """A Q8_0 tensor reads as float32 within the quantization's error."""
    checkpoint = open_checkpoint(write_gguf(tmp_path / "q8.gguf", kind=GGMLQuantizationType.Q8_0))
    name = "model.layers.0.self_attn.q_proj.weight"
    values, exact = checkpoint.read(name).astype(float), hf_tensors()[name].astype(float)
    assert checkpoint.dtype == checkpoint.tensors[name].dtype == "Q8_0"
    assert checkpoint.read(name).dtype == np.float32
    assert np.abs(values - exact).max() < np.abs(exact).max() / 100


def test_a_split_file_is_one_checkpoint(gguf_file: Path, tmp_path: Path) -> None:
    """Given any part of a split GGUF file, all parts are read, and a missing one is named."""
    write_gguf(tmp_path / "tiny.gguf", split=20)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert parts[0].name == f"tiny-00001-of-{len(parts):05}.gguf"
    assert len(parts) == 3
    checkpoint = open_checkpoint(gguf_file)
    for part in parts:
        checkpoint = open_checkpoint(part)
        checkpoint.verify()
        assert (checkpoint.config, checkpoint.tensors) == (checkpoint.config, checkpoint.tensors)
        for name in checkpoint.tensors:
            np.testing.assert_array_equal(checkpoint.read(name), checkpoint.read(name))
    renamed = parts[0].rename(tmp_path / "other.gguf")
    with pytest.raises(CheckpointError, match=r"one of 3 files that belong together"):
        open_checkpoint(renamed)
    with pytest.raises(CheckpointError, match=r"tiny-00001-of-00003\.gguf is missing"):
        open_checkpoint(parts[1])


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    """Tensors are found in whichever shard holds them."""
    checkpoint = open_checkpoint(write_hf(tmp_path / "sharded", hf_tensors(), shards=3))
    checkpoint.verify()
    assert checkpoint.dtype == "BF16"


def test_prefixed_names_are_the_same_names(tmp_path: Path) -> None:
    """The prefix ``language_model.`` of multimodal checkpoints is removed, an undescribed vision tower ignored."""
    tensors = {f"language_model.{name}": values for name, values in hf_tensors().items()}
    tensors["vision_model.class_embedding"] = np.zeros(4, dtype=np.float32)
    config = {"model_type": "llama4", "text_config": HF_CONFIG}
    checkpoint = open_checkpoint(write_hf(tmp_path / "prefixed", tensors, config))
    checkpoint.verify()
    assert checkpoint.config == open_checkpoint(write_hf(tmp_path / "plain", hf_tensors())).config


def test_tokenizer_template_and_stops_come_from_gguf_metadata(gguf_file: Path) -> None:
    """A GGUF file contains its tokenizer, its chat template and all ids that end a turn."""
    checkpoint = open_checkpoint(gguf_file)
    tokenizer = checkpoint.tokenizer()
    assert tokenizer.encode("abc") == [VOCABULARY.index("ab"), VOCABULARY.index("c")]
    assert checkpoint.stop_ids == {VOCABULARY.index("<|eot|>"), VOCABULARY.index("<|im_end|>")}
    template = checkpoint.chat_template()
    assert template is not None
    assert template.source.startswith("{{ messages")


def test_generation_settings_come_from_the_directory(tmp_path: Path) -> None:
    """Stops and sampling defaults are those of generation_config.json, or else the published ones."""
    folder = write_hf(tmp_path / "tiny", hf_tensors())
    assert open_checkpoint(folder).generation_defaults.temperature == 0.6
    settings = {"eos_token_id": [3, 4], "temperature": 0.7, "top_p": 0.8}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.stop_ids == {3, 4}
    assert (checkpoint.generation_defaults.temperature, checkpoint.generation_defaults.top_p) == (0.7, 0.8)


def test_the_scaling_rule_is_recovered_from_its_divisors(tmp_path: Path) -> None:
    """The scaling rule is recovered from the divisors that GGUF lists; an unknown rule is refused."""
    rule = RopeScaling(factor=16.0, low_freq_factor=1.0, high_freq_factor=1.0, original_context=8192)
    frequencies = [500000.0 ** (-2 * n / TINY.dim) for n in range(TINY.dim // 2)]
    divisors = np.array([rule.divisor(f) for f in frequencies], dtype=np.float32)
    path = write_gguf(tmp_path / "scaled.gguf", rope_factors=divisors)
    assert open_checkpoint(path).config.rope_scaling == rule
    odd = write_gguf(tmp_path / "odd.gguf", rope_factors=np.array([1, 2, 3, 4], dtype=np.float32))
    with pytest.raises(CheckpointError, match="scaling rule"):
        open_checkpoint(odd)


def test_a_file_cut_anywhere_is_an_error(gguf_file: Path, tmp_path: Path) -> None:
    """A file truncated in its magic, a count, the metadata, a tensor's description or its data is an error."""
    content = gguf_file.read_bytes()
    cuts = [0, 3, 4, 6, 12, 23, 30, *range(40, len(content), len(content) // 60), len(content) - 33]
    for cut in cuts:
        path = tmp_path / "cut.gguf"
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match=r"truncated|not a GGUF file"):
            open_checkpoint(path)


def test_damaged_headers_are_errors(gguf_file: Path, tmp_path: Path) -> None:
    """With any single byte of the header changed, opening succeeds or raises CheckpointError, never another error."""
    content = bytearray(gguf_file.read_bytes())
    path = tmp_path / "damaged.gguf"
    for position in range(0, 6000, 7):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            checkpoint = open_checkpoint(path)
            checkpoint.verify()
            checkpoint.tokenizer()
        except CheckpointError:
            continue


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_1", "F16"])
def test_gguf_codes_are_those_stored(tmp_path: Path, kind: str) -> None:
    """Q8_0, Q4_0 and Q4_1 have codes, scales and minima that mean the values of ``read``; other types have none."""
    checkpoint = open_checkpoint(write_gguf(tmp_path / "codes.gguf", kind=GGMLQuantizationType[kind]))
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.feed_forward.experts.3.down_proj.weight"):
        form = checkpoint.stored_form(name)
        if kind in ("Q5_1", "F16"):
            assert form is None
            continue
        tensor = checkpoint.read_quantized(name)
        assert tensor.form == form
        codes = tensor.codes
        if kind != "Q8_0":
            codes = np.stack((codes.view(np.uint8) & 15, codes.view(np.uint8) >> 4), axis=-1).reshape(len(codes), -1)
        grouped = codes.reshape(len(codes), -1, 32).astype(np.float32) - np.float32(8 if kind == "Q4_0" else 0)
        values = grouped * tensor.scale.astype(np.float32)[:, :, None]
        if tensor.minimum is not None:
            values += tensor.minimum.astype(np.float32)[:, :, None]
        np.testing.assert_array_equal(values.reshape(len(codes), -1), checkpoint.read(name))


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_other_architectures_are_refused(tmp_path: Path, architecture: str) -> None:
    """Networks of other architectures, such as Mixtral, are refused by name."""
    path = write_gguf(tmp_path / "other.gguf", architecture=architecture)
    with pytest.raises(CheckpointError, match=r"qwen3|Mixtral"):
        open_checkpoint(path)


def test_an_unknown_word_splitter_is_refused(tmp_path: Path) -> None:
    """A GGUF file with an unknown splitting rule opens, but its tokenizer raises an error that names the rule."""
    checkpoint = open_checkpoint(write_gguf(tmp_path / "odd.gguf", pre="tekken"))
    with pytest.raises(CheckpointError, match="tekken"):
        checkpoint.tokenizer()


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    """A missing tensor is named with its shape."""
    tensors = hf_tensors()
    del tensors["model.layers.2.self_attn.k_proj.weight"]
    with pytest.raises(CheckpointError, match=r"layers\.2\.self_attn\.k_proj\.weight.*\[16, 32\]"):
        open_checkpoint(write_hf(tmp_path / "gap", tensors)).verify()


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path: Path) -> None:
    """A tensor of another shape than the network's is named with both."""
    tensors = hf_tensors() | {"model.norm.weight": np.zeros(31, dtype=np.float32)}
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight.*\[31\].*\[32\]"):
        open_checkpoint(write_hf(tmp_path / "bent", tensors)).verify()


def test_a_tensor_too_many_is_an_error(tmp_path: Path) -> None:
    """A bias or scale that would be ignored, and so change the network, is refused by name."""
    tensors = hf_tensors() | {"model.layers.0.self_attn.q_proj.bias": np.zeros(32, dtype=np.float32)}
    with pytest.raises(CheckpointError, match=r"q_proj\.bias"):
        open_checkpoint(write_hf(tmp_path / "more", tensors)).verify()


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1])
def test_truncated_safetensors_are_errors(hf_directory: Path, tmp_path: Path, keep: int) -> None:
    """A shard that is cut short, in its header or its data, raises CheckpointError."""
    folder = write_hf(tmp_path / "cut", hf_tensors())
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or truncated"):
        open_checkpoint(folder)


def test_an_absent_shard_is_named(tmp_path: Path) -> None:
    """A missing shard of the index is named."""
    folder = write_hf(tmp_path / "sharded", hf_tensors(), shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"model_type": "llama"}, "llama"),
        ({**HF_CONFIG, "num_attention_heads": 0}, "config.json"),
        ({**HF_CONFIG, "hidden_size": "wide"}, "hidden_size"),
        ({**HF_CONFIG, "hidden_act": "gelu"}, "gelu"),
        ({**HF_CONFIG, "quantization_config": {"quant_method": "fp8"}}, "quantized"),
        ([1, 2], "JSON object"),
    ],
)
def test_configs_of_other_kinds_are_refused(tmp_path: Path, content: object, problem: str) -> None:
    """A config.json of another architecture, with invalid values, or of an unknown quantization is refused."""
    folder = write_hf(tmp_path / "odd", hf_tensors())
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=problem):
        open_checkpoint(folder)


def test_an_empty_directory_is_no_checkpoint(tmp_path: Path) -> None:
    """The missing file is named: config.json, weights or tokenizer."""
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        open_checkpoint(write_hf(tmp_path, hf_tensors())).tokenizer()


def test_metas_tokenizer_serves_where_there_is_no_other(tmp_path: Path) -> None:
    """A directory with only ``tokenizer.model`` has its tokenizer, control tokens included."""
    folder = write_hf(tmp_path / "meta", hf_tensors())
    lines = [b"%s %d" % (base64.b64encode(bytes([byte])), byte) for byte in range(256)]
    (folder / "tokenizer.model").write_bytes(b"\n".join(lines))
    tokenizer = open_checkpoint(folder).tokenizer()
    assert tokenizer.encode("a<|eot|>")[:2] == [256, ord("a")]
    assert tokenizer.decode(tokenizer.encode("a<|eot|>")) == "a<|eot|>"
    assert tokenizer.control["<|eot|>"] == 256 + 8


def test_a_llama4_vocabulary_without_a_template_has_llama4s_prompts(tmp_path: Path) -> None:
    """Without a template, Llama 4's format is used if the vocabulary is Llama 4's, and none otherwise."""
    folder = write_hf(tmp_path / "meta", hf_tensors())
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": []}), encoding="utf-8")
    assert open_checkpoint(folder).prompt_format() is None
    marks = [{"content": name} for name in control_tokens(0)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": marks}), encoding="utf-8")
    assert open_checkpoint(folder).prompt_format() == Llama4Prompt()
    (folder / "tokenizer.json").unlink()
    assert open_checkpoint(folder).prompt_format() is None
    (folder / "tokenizer.model").touch()
    assert open_checkpoint(folder).prompt_format() == Llama4Prompt()
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert isinstance(open_checkpoint(folder).prompt_format(), ChatTemplate)


def test_a_gguf_files_own_template_comes_first(gguf_file: Path) -> None:
    """A GGUF file of another vocabulary has only its own template as a format."""
    checkpoint = open_checkpoint(gguf_file)
    assert not checkpoint.has_llama4_vocabulary
    assert isinstance(checkpoint.prompt_format(), ChatTemplate)


def test_nothing_there_is_not_found(tmp_path: Path) -> None:
    """A path that does not exist raises WeightsNotFoundError."""
    with pytest.raises(WeightsNotFoundError):
        open_checkpoint(tmp_path / "nothing.gguf")


def test_opening_needs_no_torch(gguf_file: Path, hf_directory: Path) -> None:
    """Both formats are opened without importing torch."""
    code = (
        "import sys; from llama4sdk.weights.opening import open_checkpoint\n"
        "for path in sys.argv[1:]: open_checkpoint(path).verify()\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(gguf_file), str(hf_directory)], check=True)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "..", "a\\b.safetensors", "a\0b"])
def test_an_index_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    """A shard's name outside the directory is refused, whether or not the file exists."""
    write_hf(tmp_path, hf_tensors())
    (tmp_path / "model.safetensors").rename(tmp_path / "outside.safetensors")
    folder = write_hf(tmp_path / "inside", hf_tensors(), shards=2)
    index = {"weight_map": dict.fromkeys(hf_tensors(), name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match="not in that directory"):
        open_checkpoint(folder)


def test_links_to_shards_are_followed(tmp_path: Path) -> None:
    """Links out of the directory, as in the hub's cache, are followed."""
    folder = write_hf(tmp_path / "snapshot", hf_tensors(), shards=2)
    for shard in list(folder.glob("*.safetensors")):
        (tmp_path / f"blob-{shard.name}").write_bytes(shard.read_bytes())
        shard.unlink()
        shard.symlink_to(f"../blob-{shard.name}")
    open_checkpoint(folder).verify()
