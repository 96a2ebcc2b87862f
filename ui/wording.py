"""Times, durations and names, in words."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # the years 1 and 9999


def duration(seconds: float) -> str:
    """`8 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004 -- of a minute, as below of an hour
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def moment(seconds: float) -> str:
    """Seconds since the epoch, to the second, in UTC: `2026-11-26 14:30:05`; of a time beyond, the nearest year's."""
    return f"{datetime.fromtimestamp(min(max(seconds, _FIRST), _LAST), UTC):%Y-%m-%d %H:%M:%S}"


def told_apart(names: Iterable[str]) -> list[str]:
    """The names, with a number after each that came before: of two equal choices Streamlit takes the first."""
    seen: Counter[str] = Counter()
    apart = []
    for name in names:
        seen[name] += 1
        apart.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return apart
