"""What the Prefect flow costs over `python -m ingest`, and what a run leaves in Prefect's database.

.venv/bin/python benchmarks/flow_overhead.py --images 10000 --rounds 2
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from surroundings import surroundings, tell

CHECKOUT = Path(__file__).resolve().parents[1]
SIDE = 64


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2, help="of each side, in turn")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "archive", options.images)
        with server(folder / "prefect") as environment:
            ran: dict[str, list[float]] = {"python -m ingest": [], "flow": []}
            before = size_of(folder / "prefect")
            for number in range(options.rounds):
                sides = [("python -m ingest", "ingest"), ("flow", "flows.ingest_archive")]
                for side, module in sides[:: -1 if number % 2 else 1]:
                    index = folder / f"{side.split()[-1]}-{number}"
                    command = [sys.executable, "-m", module, str(folder / "archive"), "--index", str(index)]
                    begun = time.monotonic()
                    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, capture_output=True)  # noqa: S603 -- ours
                    ran[side].append(time.monotonic() - begun)
                    tell(f"{side}: {ran[side][-1]:.1f} s")
            grown = (size_of(folder / "prefect") - before) / options.rounds
    print(surroundings(["prefect", "torch", "qdrant-edge-py"]))
    print("\n| side | seconds | images/s |\n| --- | --- | --- |")
    for side, seconds in ran.items():
        each = ", ".join(f"{one:.1f}" for one in seconds)
        print(f"| {side} | {each} | {options.images * len(seconds) / sum(seconds):.1f} |")
    over = sum(ran["flow"]) / sum(ran["python -m ingest"]) - 1
    adds = f"A run of {options.images:,} images adds {grown / 1e6:.2f} MB to Prefect's database"
    print(f"\nThe flow takes {100 * over:+.1f} %. {adds},")
    print(f"{grown / options.images:.0f} MB for a million images.")


def write_images(folder: Path, count: int) -> None:
    """Pictures of random grey values: as small as they are, what is not the model's work weighs the most."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE), np.uint8)).save(folder / f"{number:06}.png")


@contextlib.contextmanager
def server(home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server on loopback; gives the environment of its clients."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    environment = {
        **os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"
    }  # fmt: skip
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 -- ours
    try:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=5).is_success:
                    break
            time.sleep(0.5)
        yield {**environment, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    finally:
        process.terminate()
        process.wait(30)


def size_of(home: Path) -> int:
    """Bytes of the database, with what it has not merged yet."""
    time.sleep(5)  # events are written a moment after a run
    return sum(file.stat().st_size for file in home.glob("prefect.db*"))


if __name__ == "__main__":
    main()
