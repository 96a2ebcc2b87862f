"""An embedded index on a bad disk: what is lost is said, and nothing is written where there is no room."""

import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_index_embedded import MODEL, image

from radsearch.errors import DamagedIndexError, DiskFullError, IndexMismatchError, IndexMissingError, RadSearchError
from radsearch.index import damage, folder, open_index
from radsearch.index.verify import verify
from radsearch.settings import Settings
from radsearch.study import SearchFilter

pytestmark = pytest.mark.slow
IMAGES = 50


@pytest.fixture
def filled(settings: Settings) -> Settings:
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], "check")
        index.write([image(number) for number in range(IMAGES)])
        index.finish()
    return settings


def segment(settings: Settings) -> Path:
    (found,) = (path for path in Path(settings.index, "shard", "segments").iterdir() if path.is_dir())
    return found


@pytest.mark.parametrize(
    "name",
    [
        "version.info",  # the engine would leave the segment away without a word
        "segment.json",
        "vector_storage-first/vectors/status.dat",  # and take the vectors for none
        "vector_storage-first/vectors/chunk_0.mmap",
        "payload_storage/page_0.dat",
        "mutable_id_tracker.mappings",
    ],
)
@pytest.mark.parametrize("how", ["lost", "cut"])
def test_a_file_that_is_lost_or_cut_is_said(filled: Settings, name: str, how: str) -> None:
    file = segment(filled) / name
    if how == "lost":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedIndexError, match=r"is damaged: .*Restore a snapshot") as caught:
        open_index(filled)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert segment(filled)  # nothing was cleared away


def test_one_can_go_on_with_what_is_left(filled: Settings) -> None:
    (segment(filled) / "version.info").unlink()
    Path(filled.index, damage.FILES).unlink()
    with open_index(filled) as index:  # the engine's log may still hold all of it
        index.write([image(1)])
        left = index.count()
    with open_index(filled) as index:
        assert index.count() == left >= 1


def test_what_the_engine_says_of_a_damaged_file_is_one_line(filled: Settings) -> None:
    (segment(filled) / "segment.json").write_text("{")
    Path(filled.index, damage.FILES).unlink()
    for _ in range(2):  # and the folder was let go of
        with pytest.raises(DamagedIndexError) as caught:
            open_index(filled)
        assert "\n" not in str(caught.value)


def test_a_payload_that_cannot_be_read_any_more_is_said(filled: Settings) -> None:
    file = segment(filled) / "payload_storage" / "page_0.dat"
    content = bytearray(file.read_bytes())
    content[:4000] = bytes(byte ^ 0x5A if byte else 0 for byte in content[:4000])
    file.write_bytes(content)
    with open_index(filled) as index, pytest.raises(DamagedIndexError):
        list(index.pages())


def test_vectors_whose_bytes_have_changed_are_found_by_verify(filled: Settings) -> None:
    with open_index(filled) as index:
        assert verify(index, "first", IMAGES).misshapen == 0
    file = segment(filled) / "vector_storage-first" / "vectors" / "chunk_0.mmap"
    vectors = np.frombuffer(file.read_bytes(), np.float32).copy()
    vectors[: 4 * IMAGES] *= 1.5
    file.write_bytes(vectors.tobytes())
    with open_index(filled) as index:
        verdict = verify(index, "first", IMAGES)
    assert verdict.misshapen == IMAGES
    assert not verdict.sound


def test_an_index_that_was_killed_is_not_compared(filled: Settings) -> None:
    """What was noted of its files holds no longer once it is written to."""
    with open_index(filled) as index:
        assert Path(filled.index, damage.FILES).exists()
        index.write([image(IMAGES)])
        assert not Path(filled.index, damage.FILES).exists()
    assert Path(filled.index, damage.FILES).exists()


@pytest.mark.parametrize("noted", ["", "[]", "{", '{"shard": "x"}'])
def test_notes_that_cannot_be_read_are_no_damage_or_are_said(filled: Settings, noted: str) -> None:
    Path(filled.index, damage.FILES).write_text(noted)
    if noted.startswith('{"'):
        with pytest.raises(DamagedIndexError):
            open_index(filled)
    else:
        open_index(filled).close()


def free(monkeypatch: pytest.MonkeyPatch, megabytes: int) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 -- as shutil's own
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: usage(0, 0, megabytes << 20))


def test_nothing_is_written_to_a_disk_that_is_almost_full(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's files are mapped: on a full disk the system would kill the process."""
    with open_index(filled) as index:
        free(monkeypatch, 200)
        with pytest.raises(DiskFullError, match="has 200 MB left where 256 MB are wanted: make room"):
            index.write([image(IMAGES)])
        assert index.count() == IMAGES
        assert index.nearest({"first": np.eye(4, dtype=np.float32)[0]}, SearchFilter(), 3)
    free(monkeypatch, 20)
    with pytest.raises(DiskFullError, match="has 20 MB left"):
        open_index(filled)
    with pytest.raises(DiskFullError):
        open_index(replace(filled, index=filled.index + "-other"), create_for=[MODEL])
    assert not Path(filled.index + "-other").exists()
    monkeypatch.undo()
    with open_index(filled) as index:
        index.write([image(IMAGES)])
        assert index.count() == IMAGES + 1


def test_a_graph_is_not_built_where_there_is_no_room_for_it(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_index(filled) as index:
        index.write([image(IMAGES)])
        free(monkeypatch, 256)
        with pytest.raises(DiskFullError):
            index.finish()
        monkeypatch.undo()
        index.finish()


@pytest.mark.parametrize(
    "change",
    [
        None,
        [],
        "card",
        {"models": []},
        {"models": None},
        {"models": {"first": {"model": "first"}}},
        {"models": {"first": None}},
        {"storage": None},
        {"storage": {"quantization": "turbo2"}},
        {"storage": {"quantization": "none", "datatype": "int8"}},
        {"storage": {"colour": "red"}},
        {"unsettled": "first"},
        {"unsettled": [1]},
        {"secret_check": 3},
    ],
    ids=str,
)
def test_a_card_with_other_fields_or_values_is_said(filled: Settings, change: object) -> None:
    file = Path(filled.index, "radsearch.json")
    card = json.loads(file.read_text())
    file.write_text(json.dumps({**card, **change} if isinstance(change, dict) else change))
    with pytest.raises(IndexMismatchError, match="card") as caught:
        open_index(filled)
    assert "\n" not in str(caught.value)
    file.write_text(json.dumps(card))
    with open_index(filled) as index:
        assert index.count() == IMAGES


def test_a_folder_that_may_not_be_looked_at_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(IndexMissingError, match="cannot be looked at \\(Permission denied\\)"):
        open_index(settings)


def test_an_index_in_the_home_of_nobody_is_said() -> None:
    with pytest.raises(RadSearchError, match="home of a user who is not known"):
        open_index(Settings(index="~no-such-user-here/index"))


def test_an_index_is_made_in_the_folder_that_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_index(Settings(index="."), create_for=[MODEL]) as index:
        index.write([image(1)])
        assert index.count() == 1


def test_who_was_slower_in_making_an_index_opens_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_card = folder.write_card

    def write_and_be_overtaken(half_made: Path, card: object) -> None:
        write_card(half_made, card)  # type: ignore[arg-type]
        monkeypatch.setattr(folder, "write_card", write_card)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        open_index(settings, create_for=[MODEL]).close()
        monkeypatch.undo()

    monkeypatch.setattr(folder, "write_card", write_and_be_overtaken)
    with open_index(settings, create_for=[MODEL]) as index:
        assert index.count() == 0
    assert [path.name for path in Path(settings.index).parent.iterdir() if path.name.startswith(".")] == []
