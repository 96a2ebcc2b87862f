"""5,000 damaged files: each counted, and the run goes on."""

from pathlib import Path

import pytest
from mutation_run import COUNT, run


@pytest.mark.slow
def test_five_thousand_damaged_files_are_each_accounted_for(tmp_path: Path) -> None:
    made = run(COUNT, tmp_path)
    assert sum(made.outcomes.values()) == COUNT >= 5000
    assert made.seeds >= 30
    assert made.kinds >= 40
    assert made.unexpected == ()
    assert made.outcomes["read"] > 1000  # bits flipped in pixels
    assert made.outcomes["truncated file"] > 300
    assert [path.name for path in tmp_path.iterdir()] == ["seeds"]
