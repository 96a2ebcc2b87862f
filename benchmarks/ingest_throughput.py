"""How much of the model's own speed does an ingest of PNGs reach, and does its memory grow with their number?

    .venv/bin/python benchmarks/ingest_throughput.py [--images 12000] [--side 256]
    .venv/bin/python benchmarks/ingest_throughput.py --memory

Each round times the forward pass alone (batches ready on the device), an ingest from files until all images are stored
(and can be searched), the building of the index's graph, and the forward pass again.
`--memory` runs `python -m ingest` over 1,000 and 10,000 images instead and prints the peaks.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from radsearch.settings import Settings, usable_cores

if TYPE_CHECKING:  # the worker processes import this file, and would import torch with it
    from radsearch.models.base import Embedder

_SECRET = "a secret for benchmarks only, of no use"  # noqa: S105 -- protects nothing
_FORWARD_IMAGES = 1024
_ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--side", type=int, default=256, help="longest side of the PNGs in pixels")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            measure_memory(Path(folder), options.side)
        else:
            measure_speed(Path(folder), options.images, options.side)


def measure_speed(folder: Path, images: int, side: int) -> None:
    import torch

    from ingest.run import begin
    from ingest.sources import Archive
    from ingest.whole import ingest_all

    ratios = []
    print("round  forward only  stored  + index built   ratio  with index    (images/s)")
    for number in range(_ROUNDS):
        archive = folder / f"round-{number}"
        settings = Settings(index=str(folder / f"index-{number}"), secret=_SECRET)
        write_pngs(archive, images // _ROUNDS, side, seed=number)
        with begin(Archive(archive), (), settings) as run:
            embedder = cast("Embedder", run.ingestion.embedding.embedders()[0])  # of several GPUs it would be none
            before = forward_rate(embedder)
            begun = time.perf_counter()
            ingest_all(run.ingestion, lambda run=run: run.archive.files(run.pseudonymizer), lambda: None)  # type: ignore[misc]
            stored = run.ingestion.accounts.images() / (time.perf_counter() - begun)
            run.index.finish()
            built = run.ingestion.accounts.images() / (time.perf_counter() - begun)
            forward = statistics.mean((before, forward_rate(embedder)))
        ratio, with_index = stored / forward, built / forward
        ratios.append((ratio, with_index))
        print(f"{number + 1:>5}  {forward:>12.1f}  {stored:>6.1f}  {built:>13.1f}  {ratio:>6.2f}  {with_index:>10.2f}")
    stored_ratio, built_ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
    setting = f"{images} PNGs of {side} px; {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"\nmedian ratio {stored_ratio:.2f} (with index {built_ratio:.2f}); {setting}")


def forward_rate(embedder: "Embedder") -> float:
    """Images a second of the forward pass alone, at the batch size of the ingest."""
    import torch

    from radsearch.models.preprocessing import prepare

    noise = np.random.default_rng(0).integers(0, 256, (embedder.batch, 256, 256), dtype=np.uint8)
    batch = embedder.normalised([prepare(picture, embedder.spec.preprocessing) for picture in noise])
    embedder.features([batch] * 4)
    begun = time.perf_counter()
    embedder.features([batch] * (_FORWARD_IMAGES // embedder.batch))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return _FORWARD_IMAGES / (time.perf_counter() - begun)


def measure_memory(folder: Path, side: int) -> None:
    """Peak resident memory of the command's main process; a worker's is far smaller.

    This process stays small itself: Linux counts the parent's memory at the fork as the child's.
    """
    for images in (1000, 10_000):
        archive = folder / f"memory-{images}"
        write_pngs(archive, images, side, seed=images)
        command = [sys.executable, "-m", "ingest", str(archive), "--index", str(folder / f"index-{images}")]
        begun = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, "RADSEARCH_SECRET": _SECRET})  # noqa: S603 -- our own
        _, status, usage = os.wait4(process.pid, 0)
        print(
            f"{images} images: peak {usage.ru_maxrss / 1024:.0f} MiB, {time.perf_counter() - begun:.0f} s, "
            f"exit {os.waitstatus_to_exitcode(status)}"
        )
    print(f"(this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB)")


def write_pngs(folder: Path, count: int, side: int, *, seed: int) -> None:
    """Grey PNGs with structure at all scales, as pictures of the body have it; noise alone would not compress.

    By all cores: one alone takes minutes for what a GPU embeds in seconds.
    """
    folder.mkdir()
    with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn")) as processes:
        writing = processes.map(partial(_write_png, folder, side, seed), range(count), chunksize=64)
        deque(writing, maxlen=0)  # raises what went wrong in any of them


def _write_png(folder: Path, side: int, seed: int, number: int) -> None:
    random = np.random.default_rng((seed, number))
    coarse = Image.fromarray(random.integers(0, 256, (9, 9), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    pixels = np.clip(smooth + random.integers(-6, 7, (side, side)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{number:06}.png")


if __name__ == "__main__":
    main()
