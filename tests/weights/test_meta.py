"""Meta's original directories are assembled exactly, and their pickles never run."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from llama4sdk.errors import CheckpointError
from llama4sdk.weights.formats.pth import TorchFile
from llama4sdk.weights.opening import open_checkpoint
from tests.weights.checkpoints import (
    TOKENIZER,
    VISION,
    VOCABULARY,
    Array,
    Sizes,
    hf_tensors,
    seeing_config,
    seeing_tensors,
    unfused,
    write_hf,
)
from tests.weights.meta import params, quantized, write_meta

#: A network that eight ranks can share, as they share Scout and Maverick.
EIGHTFOLD = Sizes(hidden=64, heads=16, kv_heads=8, dim=4)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_ranks_are_put_together(tmp_path: Path, ranks: int) -> None:
    """Assembled tensors, experts and vision weights equal the original ones, and so does the configuration."""
    tensors = seeing_tensors(EIGHTFOLD)
    tensors |= {name: _more_tokens(tensors[name]) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    meta = open_checkpoint(write_meta(tmp_path / "meta", tensors, EIGHTFOLD, ranks=ranks, vision=VISION))
    meta.verify()
    expected = unfused(tensors)
    assert meta.tensors.keys() == expected.keys()
    for name, values in expected.items():
        assert meta.tensors[name].shape == values.shape
        np.testing.assert_array_equal(meta.read(name).astype(float), values.astype(float), err_msg=name)
    hf = open_checkpoint(write_hf(tmp_path / "hf", tensors, seeing_config(EIGHTFOLD)))
    assert meta.vision == hf.vision == VISION
    assert meta.config == hf.config.model_copy(update={"max_context": 262144, "vocab_size": 16})


def _more_tokens(values: Array) -> Array:
    """A vocabulary of 16 tokens more, which eight ranks can share."""
    return np.concatenate([values, values[:4]])


def test_a_vision_network_without_description_is_left_alone(tmp_path: Path) -> None:
    """Without ``vision_args`` the text network can be used by itself."""
    folder = write_meta(tmp_path / "meta", seeing_tensors(), ranks=1, vision=VISION)
    (folder / "params.json").write_text(json.dumps(params()), encoding="utf-8")
    checkpoint = open_checkpoint(folder)
    checkpoint.verify()
    assert checkpoint.vision is None


@pytest.mark.parametrize("ranks", [1, 2])
def test_experts_of_8_bits_are_unpacked(tmp_path: Path, ranks: int) -> None:
    """FP8 experts are each rank's values times that rank's scales; all other tensors are bf16."""
    meta = open_checkpoint(write_meta(tmp_path / "meta", hf_tensors(), ranks=ranks, fp8=True))
    meta.verify()
    for name, values in unfused(hf_tensors()).items():
        if not name.startswith("model.layers.1.feed_forward.experts."):
            assert meta.tensors[name].dtype == "BF16"
            np.testing.assert_array_equal(meta.read(name).astype(float), values.astype(float), err_msg=name)
            continue
        axis = 1 if "down_proj" in name else 0  # of [out, in], what is cut among ranks
        pieces = [quantized(piece) for piece in torch.from_numpy(values.astype(np.float32)).chunk(ranks, axis)]
        wanted = torch.cat([piece.float() * scale.unsqueeze(1) for piece, scale in pieces], axis)
        assert meta.tensors[name].dtype == "F8_E4M3"
        assert meta.tensors[name].nbytes == values.size + 4 * sum(scale.numel() for _, scale in pieces)
        np.testing.assert_array_equal(meta.read(name), wanted.numpy(), err_msg=name)
        assert np.abs(meta.read(name) - values.astype(np.float32)).max() < 0.07 * np.abs(values.astype(float)).max()


def test_lost_scales_are_named(tmp_path: Path) -> None:
    """8-bit experts without their scales' file, or with an incomplete one, are refused by name."""
    folder = write_meta(tmp_path / "meta", hf_tensors(), fp8=True)
    torch.save({}, folder / "fp8_scales_1.pt")
    with pytest.raises(CheckpointError, match=r"fp8_scales_1\.pt has no 'layers\.1\.feed_forward\.experts\.w1'"):
        open_checkpoint(folder)
    (folder / "fp8_scales_0.pt").unlink()
    with pytest.raises(CheckpointError, match=r"fp8_scales_0\.pt is not there"):
        open_checkpoint(folder)


def test_int4_directories_are_refused_by_name(tmp_path: Path) -> None:
    """Meta's int4 format, packed pairs stored as 8-bit floats, is not mistaken for FP8."""
    folder = write_meta(tmp_path / "meta", hf_tensors(), ranks=1, fp8=True)
    (folder / "fp8_scales_0.pt").rename(folder / "int4_scales_0.pt")
    with pytest.raises(CheckpointError, match=r"int4 in Meta's own way, as int4_scales_0\.pt says"):
        open_checkpoint(folder)


@pytest.mark.parametrize(("experts", "context"), [(16, 10_485_760), (128, 1_048_576), (4, 262_144)])
def test_contexts_are_those_of_metas_tables(tmp_path: Path, experts: int, context: int) -> None:
    """The context length, which the files do not state, is the longest published one, with a note."""
    sizes = Sizes(experts=experts)
    checkpoint = open_checkpoint(write_meta(tmp_path / "meta", hf_tensors(sizes), sizes, ranks=1))
    assert checkpoint.config.max_context == context
    assert str(context) in checkpoint.notes[0]


def test_the_tokenizer_is_built_once(tmp_path: Path) -> None:
    """``stop_ids`` does not build the tokenizer again, which takes seconds."""
    folder = write_meta(tmp_path / "meta", hf_tensors(), ranks=1)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.stop_ids == {VOCABULARY.index("<|eot|>")}
    assert checkpoint.tokenizer() is checkpoint.tokenizer()


def test_a_missing_rank_is_noticed(tmp_path: Path) -> None:
    """With one of two files, tensors do not fit the configuration."""
    folder = write_meta(tmp_path / "meta", hf_tensors())
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(CheckpointError, match=r"q_proj|o_proj|lm_head"):
        open_checkpoint(folder).verify()


def test_a_gap_among_the_ranks_is_named(tmp_path: Path) -> None:
    """A missing file between others is named."""
    folder = write_meta(tmp_path / "meta", hf_tensors())
    (folder / "consolidated.01.pth").rename(folder / "consolidated.02.pth")
    with pytest.raises(CheckpointError, match=r"consolidated\.01\.pth is missing"):
        open_checkpoint(folder)


def test_every_view_of_values_is_read(tmp_path: Path) -> None:
    """Transposed, sliced, nested and shared tensors have the values torch reads."""
    values = torch.arange(24.0).view(6, 4)
    saved = OrderedDict(a=values, b=values.t(), c=values[2:4, 1:], d=torch.nn.Parameter(values), e=values.half())
    bits = values.to(torch.float8_e4m3fn)
    torch.save(saved | {"f": bits, "g": torch.nn.Parameter(bits[1:, 2:])}, tmp_path / "views.pth")
    file = TorchFile(tmp_path / "views.pth")
    np.testing.assert_array_equal(file.read("f").astype(np.float32), bits.float().numpy())
    np.testing.assert_array_equal(file.read("g").astype(np.float32), bits[1:, 2:].float().numpy())
    for name, values in saved.items():
        np.testing.assert_array_equal(file.read(name), values.detach().numpy())


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._marker),)


def test_code_in_a_pickle_is_refused_and_never_runs(tmp_path: Path) -> None:
    """A pickle that would make a directory is refused by the name of the call, and no directory is made."""
    marker = tmp_path / "executed"
    folder = write_meta(tmp_path / "meta", hf_tensors())
    torch.save({"norm.weight": torch.ones(32), "more": _Malicious(marker)}, folder / "consolidated.00.pth")
    with pytest.raises(CheckpointError, match=r"posix mkdir|nt mkdir"):
        open_checkpoint(folder)
    assert not marker.exists()
    pickle.loads(pickle.dumps(_Malicious(marker)))
    assert marker.exists()  # it was a real one


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"no archive", pickle.dumps({"a": 1})])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no zip archive, torch's old format included, is a CheckpointError."""
    (tmp_path / "params.json").write_text('{"n_layers": 4, "n_heads": 4}')
    (tmp_path / "consolidated.00.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth"):
        open_checkpoint(tmp_path)


def test_a_file_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    """A file truncated in the values, the pickle or the archive's directory is an error."""
    folder = write_meta(tmp_path / "meta", hf_tensors())
    file = folder / "consolidated.01.pth"
    content = file.read_bytes()
    for cut in range(0, len(content), len(content) // 40):
        file.write_bytes(content[:cut])
        with pytest.raises(CheckpointError):
            open_checkpoint(folder)
