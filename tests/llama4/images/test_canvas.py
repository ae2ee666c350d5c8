"""The grid of tiles of an image and its tokens equal those of transformers' own functions."""

from __future__ import annotations

import ast
import importlib.util
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from transformers.image_utils import SizeDict

from llama4sdk.llama4.images.canvas import Canvas, choose_canvas, image_tokens

FUNCTIONS = ("get_factors", "find_supported_resolutions", "get_best_fit", "get_max_res_without_distortion")
USUAL = (1, 10, 64, 224, 335, 336, 337, 480, 640, 672, 768, 1000, 1024, 1080, 1344, 1920, 2000, 3000, 4000, 5376, 20000)


@pytest.fixture(scope="module")
def theirs() -> dict[str, Callable[..., object]]:
    """The pure functions of transformers' image processor, whose module cannot be imported without torchvision."""
    spec = importlib.util.find_spec("transformers.models.llama4")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "image_processing_llama4.py").read_text(encoding="utf-8"))
    wanted: list[ast.stmt] = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS
    ]
    scope: dict[str, object] = {"math": math, "torch": torch, "defaultdict": defaultdict}
    scope |= {"lru_cache": lru_cache, "SizeDict": SizeDict}
    exec(compile(ast.Module(wanted, []), "image_processing_llama4.py", "exec"), scope)
    return {name: function for name, function in scope.items() if name in FUNCTIONS and callable(function)}


def sizes(count: int) -> list[tuple[int, int]]:
    """Every pair of usual sides, then random ones of all magnitudes."""
    dice = random.Random(0)
    pairs = [(height, width) for height in USUAL for width in USUAL]
    while len(pairs) < count:
        pairs.append((int(math.exp(dice.uniform(0, 9.9))), int(math.exp(dice.uniform(0, 9.9)))))
    return pairs


def test_canvas_and_size_equal_transformers(theirs: dict[str, Callable[..., object]]) -> None:
    """For 5000 sizes, the grid is that of transformers' processor, and so is the size of the image on it.

    Its own size is computed with float32 tensors, which at exact proportions may come out one pixel short (1574 for
    3000 * 1008 / 1920); Meta's code, and this one, put plain numbers into the same function.
    """
    resolutions = torch.tensor(theirs["find_supported_resolutions"](16, SizeDict(height=336, width=336)))
    short = 0
    for size in sizes(5000):
        canvas = choose_canvas(*size)
        target = theirs["get_best_fit"](size, resolutions)
        assert isinstance(target, torch.Tensor)
        assert (canvas.rows * 336, canvas.columns * 336) == tuple(target.tolist()), size
        ours = (canvas.height, canvas.width)
        assert ours == _their_size(theirs, size, target.tolist())
        rounded = _their_size(theirs, size, list(target))
        assert all(0 <= a - b <= 1 for a, b in zip(ours, rounded, strict=True)), size
        short += ours != rounded
    assert short < 10


def _their_size(theirs: dict[str, Callable[..., object]], size: tuple[int, int], target: list[int]) -> tuple[int, ...]:
    limits = [min(max(side, 336), limit) for side, limit in zip(size, target, strict=True)]
    fitted = theirs["get_max_res_without_distortion"](size, limits)
    assert isinstance(fitted, tuple)
    return tuple(max(int(side), 1) for side in fitted)


@pytest.mark.parametrize(
    ("size", "grid", "tokens"),
    [
        ((336, 336), (1, 1), 147),
        ((1, 1), (1, 1), 147),
        ((480, 640), (2, 2), 727),
        ((768, 1024), (3, 4), 1887),
        ((1080, 1920), (3, 5), 2322),
        ((2000, 2000), (4, 4), 2467),
        ((3000, 4000), (3, 4), 1887),
        ((10, 20000), (1, 16), 2467),
        ((20000, 10), (16, 1), 2467),
    ],
)
def test_published_examples(size: tuple[int, int], grid: tuple[int, int], tokens: int) -> None:
    """Known sizes get their known grid, and 147 or 145 n + 147 tokens."""
    canvas = choose_canvas(*size)
    assert (canvas.rows, canvas.columns) == grid
    assert len(image_tokens(canvas, 144)) == tokens


def test_tokens_are_laid_out_as_in_training() -> None:
    """Separators between columns and after every row, then the whole image behind its own mark."""
    canvas = Canvas(rows=2, columns=2, height=1, width=1)
    x, y = "<|tile_x_separator|>", "<|tile_y_separator|>"
    row = ("<|patch|>", x, "<|patch|>", y)
    assert image_tokens(canvas, 1) == ("<|image_start|>", *row, *row, "<|image|>", "<|patch|>", "<|image_end|>")


@pytest.mark.parametrize("grid", [(r, c) for r in range(1, 17) for c in range(1, 16 // r + 1)])
def test_counts_hold_for_every_grid(grid: tuple[int, int]) -> None:
    """All 50 grids have 145 tokens a tile and 147 more, and 144 features for every tile."""
    canvas = Canvas(rows=grid[0], columns=grid[1], height=1, width=1)
    tokens = image_tokens(canvas, 144)
    tiles = grid[0] * grid[1]
    assert len(tokens) == (147 if tiles == 1 else 145 * tiles + 147)
    assert Counter(tokens)["<|patch|>"] == 144 * canvas.tiles
