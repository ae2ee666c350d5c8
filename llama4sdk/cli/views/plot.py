"""Pictures of ``llama4sdk plan --plot FILE``: memory by device and class, context against memory; SVG or PNG."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.layout import DeviceShare, Layout
from llama4sdk.capacity.layout_builder import total_at
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.cli.views.number_format import format_context
from llama4sdk.errors import ConfigurationError
from llama4sdk.llama4.sizes import kv_cache_bytes
from llama4sdk.quantization import ModuleClass

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


MODULE_GROUPS: Final[tuple[tuple[str, str, tuple[ModuleClass, ...]], ...]] = (
    ("routed experts", "#08519c", ("experts",)),
    ("shared experts and dense layers", "#3182bd", ("shared_expert", "dense")),
    ("attention", "#6baed6", ("attention",)),
    ("embedding and head", "#9ecae1", ("embedding", "head")),
    ("vision, router, norms", "#c6dbef", ("vision", "router", "norms")),
)
CACHE: Final = ("keys and values", "#e6550d")
WORK: Final = ("work space and runtime", "#bdbdbd")
LINE_COLOURS: Final = ("#08519c", "#e6550d", "#31a354", "#756bb1")
INK: Final = "#222222"
GB: Final = 1e9
MAX_BARS: Final = 24
MIN_CONTEXT_TOKENS: Final = 1024
CHUNK_TOKENS: Final = 8192


def check_plot_path(path: Path) -> None:
    """Refuse a file that no picture can be written to, before any work. Raises ConfigurationError."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise ConfigurationError(f"A picture is an .svg or a .png file, not '{path}'.", hint="Write --plot plan.svg.")
    if path.is_dir():
        raise ConfigurationError(f"'{path}' is a directory.", hint="Name a file in it.")
    if not path.parent.is_dir():
        raise ConfigurationError(f"There is no directory '{path.parent}'.", hint="Make it first.")
    if find_spec("matplotlib") is None:
        raise ConfigurationError("Drawing needs matplotlib.", hint="Install it: pip install 'llama4sdk[plot]'.")


def plot(path: Path, layouts: Sequence[Layout], model: ModelFacts) -> None:
    """Draw ``layouts`` of ``model`` into a checked ``path``, whole or not at all. Raises ConfigurationError."""
    picture = draw(layouts, model, path.suffix.lower().removeprefix("."))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(picture)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise ConfigurationError(
            f"Cannot write {path}: {error.strerror or error}.",
            hint="Write --plot to a directory that is yours and has room.",
        ) from error


def draw(layouts: Sequence[Layout], model: ModelFacts, form: str) -> bytes:
    """The picture as an ``svg`` or ``png`` file's content; the same for the same layouts."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    bars = [bar for layout in layouts for bar in _device_bars(layout, several=len(layouts) > 1)][:MAX_BARS]
    style = {"svg.hashsalt": "llama4sdk", "svg.fonttype": "none", "font.size": 9, "text.color": INK}
    style |= {"axes.edgecolor": "#888888", "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}
    with mpl.rc_context(style):
        height = max(4.4, 2.6 + 0.42 * len(bars))
        figure = Figure(figsize=(12, height), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2)
        _memory(left, bars)
        _contexts(right, layouts, model)
        names = " · ".join(dict.fromkeys(map(_name, layouts)))
        figure.suptitle(f"{Path(model.name).name}: {names}", fontsize=12, fontweight="bold")
        target = io.BytesIO()
        figure.savefig(target, format=form, dpi=120, metadata={"Date": None} if form == "svg" else {"Software": None})
    return target.getvalue()


def _name(layout: Layout) -> str:
    return f"{layout.engine} {layout.precision}"


def _device_bars(layout: Layout, *, several: bool) -> Iterator[tuple[str, DeviceShare]]:
    """A bar for each device, or one for several with equal shares."""
    alike: dict[str, list[DeviceShare]] = {}
    for share in layout.shares:
        alike.setdefault(share.model_dump_json(exclude={"device", "room"}), []).append(share)
    for shares in alike.values():
        names = _device_names([share.device for share in shares])
        yield (f"{_name(layout)}\n{names}" if several else names), min(shares, key=lambda share: share.room)


def _device_names(devices: Sequence[str]) -> str:
    if len(devices) == 1:
        return {"cpu": "RAM"}.get(devices[0], devices[0])
    kind, _, first = devices[0].partition(":")
    numbers = [int(device.rpartition(":")[2]) for device in devices]
    if numbers == list(range(int(first), int(first) + len(numbers))):
        return f"each of {devices[0]} … {devices[-1]}"
    return f"each of {kind}:{','.join(map(str, numbers))}"


def _memory(axes: Axes, bars: Sequence[tuple[str, DeviceShare]]) -> None:
    rows = range(len(bars))
    shares = [share for _, share in bars]
    starts = [0.0] * len(bars)
    stacks = [
        (title, colour, [_weights_gb(share, modules) for share in shares]) for title, colour, modules in MODULE_GROUPS
    ]
    stacks.append((*CACHE, [share.kv / GB for share in shares]))
    stacks.append((*WORK, [(share.workspace + share.runtime) / GB for share in shares]))
    height = 0.62 * min(1, len(bars) / 2.5)
    for title, colour, widths in stacks:
        if any(widths):
            axes.barh(
                rows, widths, left=starts, height=height, color=colour, label=title, edgecolor="white", linewidth=0.5
            )
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for row, share in zip(rows, shares, strict=True):
        label = "room" if row == 0 else None
        axes.plot([share.room / GB] * 2, [row - 0.7 * height, row + 0.7 * height], color=INK, linewidth=2, label=label)
    axes.set_yticks(list(rows), [name for name, _ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 1.04 * max(max(share.room, share.total) for share in shares) / GB)
    axes.set_xlabel("GB")
    axes.set_title("Memory by device")
    axes.spines[["top", "right"]].set_visible(False)
    handles, titles = axes.get_legend_handles_labels()
    order = [*range(1, len(handles)), 0]  # lines come first there
    _legend(axes, [handles[n] for n in order], [titles[n] for n in order])


def _legend(axes: Axes, handles: Sequence[Artist], titles: Sequence[str]) -> None:
    axes.legend(handles, titles, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)


def _weights_gb(share: DeviceShare, modules: Sequence[ModuleClass]) -> float:
    return sum(share.weights.get(module, 0) for module in modules) / GB


def _contexts(axes: Axes, layouts: Sequence[Layout], model: ModelFacts) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator

    longest = model.config.max_context
    tokens = _steps(min(MIN_CONTEXT_TOKENS, longest), longest)
    lines = [(True, "local layers keep one chunk"), (False, "every layer keeps everything")]
    if not model.config.chunked_layers:
        lines = [(True, "weights, work space and cache")]
    legend: list[tuple[Artist, str]] = []
    for layout, colour in zip(layouts, LINE_COLOURS * len(layouts), strict=False):
        holders = [share for share in layout.shares if share.kv] or list(layout.shares[:1])
        engine = find_engine(layout.engine)
        fixed = [sum(total_at(n, layout, share, model, engine) for share in holders) for n in tokens]
        for aware, _ in lines:
            values = [kv_cache_bytes(model.config, n, value_bytes=1, chunk_aware=aware) for n in tokens]
            scale = layout.kv_bytes * layout.batch
            sizes = [(size + scale * count) / GB for size, count in zip(fixed, values, strict=True)]
            axes.plot(tokens, sizes, "-" if aware else "--", color=colour, linewidth=1.8)
        room = sum(share.room for share in holders) / GB
        axes.axhline(room, color=colour, linewidth=1.2, linestyle=":")
        legend.append((Line2D([], [], color=colour, linewidth=4), f"{_name(layout)}, room for {room:,.1f} GB"))
    legend += [(Line2D([], [], color=INK, linestyle="-" if aware else "--"), label) for aware, label in lines]
    legend.append((Line2D([], [], color=INK, linestyle=":"), "room"))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(tokens[0], tokens[-1])
    ticks = [n for n in (2**10, 2**13, 2**15, 2**17, 2**20, 10 * 2**20) if tokens[0] <= n <= tokens[-1]]
    axes.set_xticks(ticks, [format_context(n) for n in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.10g}"))
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    batch = max(layout.batch for layout in layouts)
    axes.set_xlabel("context in tokens" + (f" of each of {batch} conversations" if batch > 1 else ""))
    axes.set_ylabel("GB, of all devices with a cache")
    axes.set_title("Context against memory")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes, *zip(*legend, strict=True))


def _steps(low: int, high: int) -> list[int]:
    """Contexts from one to the other, each an eighth longer, and the end of a chunk, where the line bends."""
    steps = {low, high}
    if low < CHUNK_TOKENS < high:
        steps.add(CHUNK_TOKENS)
    step = float(low)
    while step < high:
        steps.add(int(step))
        step *= 1.125
    return sorted(steps)
