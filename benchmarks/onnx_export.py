"""Time, memory and disk space of an export. Prints one table, a line for each quantization.

python benchmarks/onnx_export.py MODEL FOLDER [--quantizations int4 int8]

Each export is a process of its own, ``llama4sdk export`` without the comparison with the native engine at its end. Its
memory is sampled every 5 ms: all of it, and without mapped files, which are pages of the checkpoint that the system may
drop at any time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psutil


def main(model: Path, folder: Path, quantizations: list[str]) -> None:
    """Export in each quantization, into a directory of its own."""
    print("| weights | seconds | its own memory, MB | with mapped files, MB | on disk, MB |")
    print("|---|---|---|---|---|")
    for name in quantizations:
        target = folder / name.replace("=", "-").replace(",", "_")
        seconds, own, total = export(model, target, name)
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        print(f"| {name} | {seconds:.1f} | {own / 1e6:.0f} | {total / 1e6:.0f} | {size / 1e6:.0f} |", flush=True)


def export(model: Path, target: Path, quantization: str) -> tuple[float, int, int]:
    """Seconds, and the peaks of memory in bytes: the process's own, and all."""
    command = [sys.executable, "-m", "llama4sdk", "export", str(model), str(target), "--to", "onnx", "--no-verify"]
    start = time.perf_counter()
    process = psutil.Popen([*command, "--quantization", quantization], stdout=subprocess.DEVNULL)
    own = total = 0
    while process.poll() is None:
        try:
            now = process.memory_info()
        except psutil.Error:
            break
        own, total = max(own, now.rss - getattr(now, "shared", 0)), max(total, now.rss)
        time.sleep(0.005)
    if process.wait():
        sys.exit("The export has failed: see above.")
    return time.perf_counter() - start, own, total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time, memory and disk space of an export to ONNX.")
    parser.add_argument("model", type=Path, help="a checkpoint, such as bench_model.py writes")
    parser.add_argument("folder", type=Path, help="the directory of the exports")
    parser.add_argument("--quantizations", nargs="+", default=["int4", "int8"])
    main(**vars(parser.parse_args()))
