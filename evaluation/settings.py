"""What every search and study is told."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a search or a study works; but for rounding, only the seed changes what it finds.

    device: of searches and training; "auto" is a GPU where there is one. memory_mb: bound of what it holds at once
    beside copies of the vectors (of the index, or reduced) and some numbers an image, in 10**6 bytes. seed: of all that
    is drawn.
    """

    device: str = "auto"
    memory_mb: int = 512
    seed: int = 0
