"""llama.cpp by llama-cpp-python, as far as the tests need it: logits, greedy answers, token ids and its quantizer."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama4sdk.weights.formats.gguf_header import read_header
from llama4sdk.weights.opening import open_checkpoint
from tests.weights.checkpoints import Sizes, write_gguf

Floats = npt.NDArray[np.float32]

BATCH = 512
#: K-quants cut rows into blocks of 256.
WIDE = Sizes(hidden=256, heads=4, kv_heads=2, dim=64, dense=512, expert=256)

BLOCKS = Path(__file__).with_name("k_quants.npz")
ROW = "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"
#: GGML's number of float32: keys and values are kept as they are, not rounded to float16.
EXACT = 0


class LlamaCpp:
    """A GGUF file in llama.cpp, on one thread."""

    def __init__(self, path: Path, *, context: int = BATCH, whole_window: bool = False) -> None:
        """``whole_window`` keeps the keys of all chunks in its cache; otherwise it drops those it will not read."""
        self._api: Any = importlib.import_module("llama_cpp")
        self._model = self._api.Llama(
            model_path=str(path),
            n_ctx=max(context, BATCH),
            n_batch=BATCH,
            n_ubatch=BATCH,
            n_threads=1,
            n_threads_batch=1,
            type_k=EXACT,
            type_v=EXACT,
            flash_attn=False,
            swa_full=whole_window,
            logits_all=True,
            verbose=False,
        )

    def logits(self, tokens: list[int]) -> Floats:
        """[tokens, vocabulary], of tokens that are read together."""
        self._model.reset()
        self._model.eval(tokens)
        return np.array(self._model.scores[: len(tokens)])

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """The most likely token, ``count`` times, each evaluated by itself."""
        self._model.reset()
        answer: list[int] = []
        read = prompt
        while len(answer) < count:
            self._model.eval(read)
            answer.append(int(np.argmax(self._model.scores[self._model.n_tokens - 1])))
            read = answer[-1:]
        return answer

    def close(self) -> None:
        """Free the model."""
        self._model.close()


class Vocabulary:
    """The tokenizer of a GGUF file in llama.cpp."""

    def __init__(self, path: Path) -> None:
        api: Any = importlib.import_module("llama_cpp")
        self._model = api.Llama(model_path=str(path), vocab_only=True, verbose=False)

    def encode(self, text: str) -> list[int]:
        """The ids of plain text, in which no control token is recognized."""
        ids: list[int] = self._model.tokenize(text.encode(), add_bos=False, special=False)
        return ids

    def close(self) -> None:
        """Free the vocabulary."""
        self._model.close()


def requantize(source: Path, target: Path, kind: str) -> Path:
    """Quantize a file with llama.cpp's own ``quantize``; ``kind`` is a suffix of its ``LLAMA_FTYPE_…`` names."""
    api: Any = importlib.import_module("llama_cpp")
    params = api.llama_model_quantize_default_params()
    params.ftype = getattr(api, f"LLAMA_FTYPE_{kind}")
    params.allow_requantize = True
    params.nthread = 1
    status = api.llama_model_quantize(str(source).encode(), str(target).encode(), params)
    assert status == 0, f"llama.cpp could not make {kind} of {source}"
    return target


def main() -> None:
    """Write ``k_quants.npz``."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    with tempfile.TemporaryDirectory() as folder:
        original = write_gguf(Path(folder) / "original.gguf", WIDE)
        for ftype in ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K"):
            path = requantize(original, Path(folder) / f"{ftype}.gguf", f"MOSTLY_{ftype}")
            header = read_header(path)
            tensor = next(tensor for tensor in header.tensors if tensor.name == ROW[0])
            unpacked = open_checkpoint(requantize(path, Path(folder) / f"{ftype}.f32.gguf", "ALL_F32"))
            arrays |= {tensor.kind.name: header.raw(tensor)[0], f"{tensor.kind.name}_values": unpacked.read(ROW[1], 0)}
    np.savez_compressed(BLOCKS, **arrays)  # type: ignore[arg-type]  # its stubs take the names for options


if __name__ == "__main__":
    main()
