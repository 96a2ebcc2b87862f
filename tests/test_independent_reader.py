"""Our pictures against DCMTK's, on every real file that both read and on what the real ones lack."""

import shutil
from pathlib import Path

import pytest
from independent_reader import EQUAL_SHARE, EXCEPTIONS, TOOLS, compare, files, made_files, name_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which(TOOLS[0]), reason="needs DCMTK (apt-get install dcmtk)"),
    pytest.mark.filterwarnings("ignore"),  # pydicom's, on files that are odd on purpose
]


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_a_real_file_is_shown_as_dcmtk_shows_it(path: Path, tmp_path: Path) -> None:
    for row in compare(path, tmp_path):
        if row.share is not None:
            assert (row.share >= EQUAL_SHARE) != (row.name in EXCEPTIONS), row


def test_encodings_and_grey_scale_steps_that_real_files_lack_are_shown_as_dcmtk_shows_them(tmp_path: Path) -> None:
    made, folder = tmp_path / "made", tmp_path / "theirs"
    made.mkdir()
    folder.mkdir()
    rows = [row for path in made_files(made) for row in compare(path, folder)]
    assert len(rows) >= 35
    assert [row for row in rows if row.share is None] == []
    assert {row.name for row in rows if row.share < EQUAL_SHARE} == {row.name for row in rows if row.name in EXCEPTIONS}


def test_most_real_files_are_compared(tmp_path: Path) -> None:
    """DCMTK reads no JPEG 2000; nearly all else it has to read, or this proves little."""
    rows = [row for path in files() for row in compare(path, tmp_path)]
    assert sum(row.share is not None for row in rows) >= 135
