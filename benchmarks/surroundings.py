"""Where a benchmark ran, what it holds in memory, and how it tells how far it is."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from radsearch.settings import usable_cores


def surroundings(packages: Sequence[str]) -> str:
    """Machine and versions in one line; each package once."""
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in dict.fromkeys(packages))
    machine = f"{usable_cores()} cores of {processors[0].split(':')[1].strip()}, {memory:.0f} GB"
    return f"{machine}; Python {platform.python_version()}, {versions}"


def memory_mb(name: str) -> float:
    """A line of /proc/self/status: VmRSS (resident), VmHWM (its peak) or RssFile (the part that is mapped files)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{name}:")[1].split()[0]) * 1024 / 1e6


def tell(words: str) -> None:
    """Say it while the table is not there yet."""
    print(words, file=sys.stderr, flush=True)
