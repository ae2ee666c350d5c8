"""Meta's original directories: put together exactly, and never executed."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from llama4sdk.errors import CheckpointError
from llama4sdk.weights.checkpoint import open_checkpoint
from llama4sdk.weights.torch_file import TorchFile
from tests.weights.checkpoints import hf_tensors, unfused, write_hf
from tests.weights.meta import write_meta


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_are_put_together(tmp_path: Path, ranks: int) -> None:
    """Every tensor, and every expert, has the values it was cut from; the configuration is the same."""
    meta = open_checkpoint(write_meta(tmp_path / "meta", hf_tensors(), ranks=ranks))
    meta.verify()
    expected = unfused(hf_tensors())
    assert meta.tensors.keys() == expected.keys()
    for name, values in expected.items():
        assert meta.tensors[name].shape == values.shape
        np.testing.assert_array_equal(meta.read(name).astype(float), values.astype(float), err_msg=name)
    hf = open_checkpoint(write_hf(tmp_path / "hf", hf_tensors())).config
    assert meta.config == hf.model_copy(update={"max_context": 262144})


def test_a_missing_rank_is_noticed(tmp_path: Path) -> None:
    """With one of two files, tensors are too small for the configuration."""
    folder = write_meta(tmp_path / "meta", hf_tensors())
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(CheckpointError, match=r"q_proj|o_proj|lm_head"):
        open_checkpoint(folder).verify()


def test_every_view_of_values_is_read(tmp_path: Path) -> None:
    """Transposed, sliced, wrapped and shared tensors have the values torch gives them."""
    whole = torch.arange(24.0).view(6, 4)
    saved = OrderedDict(a=whole, b=whole.t(), c=whole[2:4, 1:], d=torch.nn.Parameter(whole), e=whole.half())
    torch.save(saved, tmp_path / "views.pth")
    file = TorchFile(tmp_path / "views.pth")
    for name, values in saved.items():
        np.testing.assert_array_equal(file.read(name), values.detach().numpy())


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._marker),)


def test_code_in_a_pickle_is_refused_and_never_runs(tmp_path: Path) -> None:
    """A file whose pickle would make a directory is refused by the name of the call, and no directory is made."""
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
    """What is no zip archive, torch's old format included, is a CheckpointError."""
    (tmp_path / "params.json").write_text('{"n_layers": 4, "n_heads": 4}')
    (tmp_path / "consolidated.00.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"consolidated\.00\.pth"):
        open_checkpoint(tmp_path)


def test_a_file_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    """A cut in the values, the pickle or the archive's directory is always noticed."""
    folder = write_meta(tmp_path / "meta", hf_tensors())
    file = folder / "consolidated.01.pth"
    whole = file.read_bytes()
    for cut in range(0, len(whole), len(whole) // 40):
        file.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            open_checkpoint(folder)
