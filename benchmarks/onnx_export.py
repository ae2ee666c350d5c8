"""What an export takes: time, memory and disk. Prints one table, a line for each quantization.

python benchmarks/onnx_export.py MODEL FOLDER [--quantizations int4 int8]

Each is a process of its own, ``llama4sdk export`` without its comparison with the native engine at the end, which needs
the memory of that. Its memory is looked at every 5 ms: all of it, and without what it maps of files, which is the
checkpoint's pages that the system may take back at any time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psutil


def main(model: Path, folder: Path, quantizations: list[str]) -> None:
    """Export, each into a directory of its own."""
    print("| weights | seconds | its own memory, MB | with mapped files, MB | on disk, MB |")
    print("|---|---|---|---|---|")
    for name in quantizations:
        target = folder / name.replace("=", "-").replace(",", "_")
        took, own, all_of_it = export(model, target, name)
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        print(f"| {name} | {took:.1f} | {own / 1e6:.0f} | {all_of_it / 1e6:.0f} | {size / 1e6:.0f} |", flush=True)


def export(model: Path, target: Path, quantization: str) -> tuple[float, int, int]:
    """Seconds, and the most memory: its own, and all that it had."""
    command = [sys.executable, "-m", "llama4sdk", "export", str(model), str(target), "--to", "onnx", "--no-verify"]
    start = time.perf_counter()
    process = psutil.Popen([*command, "--quantization", quantization], stdout=subprocess.DEVNULL)
    own = all_of_it = 0
    while process.poll() is None:
        try:
            now = process.memory_info()
        except psutil.Error:
            break
        own, all_of_it = max(own, now.rss - getattr(now, "shared", 0)), max(all_of_it, now.rss)
        time.sleep(0.005)
    if process.wait():
        sys.exit("The export has failed: see above.")
    return time.perf_counter() - start, own, all_of_it


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What an export to ONNX takes.")
    parser.add_argument("model", type=Path, help="a checkpoint, such as bench_model.py writes")
    parser.add_argument("folder", type=Path, help="where the exports go")
    parser.add_argument("--quantizations", nargs="+", default=["int4", "int8"])
    main(**vars(parser.parse_args()))
