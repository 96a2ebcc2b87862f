"""The index in a folder: one process at a time, nothing foreign touched, made whole or not at all."""

import json
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as edge

from radsearch.errors import IndexBusyError, IndexMismatchError, IndexMissingError, RadSearchError, SettingsError
from radsearch.index import IndexedImage, open_index
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter

CHECKOUT = Path(__file__).resolve().parents[1]
MODEL = Fingerprint("first", "sha256:1", 4, "8 px", "float32", 1)
HOLD = """
import sys
from radsearch.index import open_index
from radsearch.settings import Settings
with open_index(Settings(index=sys.argv[1], busy_wait_seconds=0)):
    print("held", flush=True)
    sys.stdin.read()
"""
MAKE_AND_DIE = """
import os, sys
from radsearch.index import embedded, folder
from radsearch.settings import Settings
from radsearch.study import Fingerprint
setattr(folder if sys.argv[2] == "write_card" else embedded, sys.argv[2], lambda *_, **__: os._exit(9))
model = Fingerprint("first", "sha256:1", 4, "8 px", "float32", 1)
embedded.open_embedded_index(Settings(index=sys.argv[1]), create_for=[model])
"""

ADMIT_AND_DIE = """
import os, sys
from dataclasses import replace
from radsearch.index import embedded
from radsearch.settings import Settings
from radsearch.study import Fingerprint
model = Fingerprint("first", "sha256:1", 4, "8 px", "float32", 1)
index = embedded.open_embedded_index(Settings(index=sys.argv[1]), create_for=())
write_card = embedded.write_card
embedded.write_card = lambda folder, card: write_card(folder, card) if card.unsettled else os._exit(9)
index.admit([model, replace(model, model="second", dimension=3)], "check")
"""


@contextmanager
def held_by_another_process(index: str) -> Iterator[None]:
    command = [sys.executable, "-c", HOLD, index]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.communicate(b"")


def image(number: int) -> IndexedImage:
    payload = {"content": str(number), "models": ["first"]}
    point = f"00000000-0000-4000-8000-{number:012d}"
    return IndexedImage(point, {"first": np.eye(4, dtype=np.float32)[number % 4]}, payload)


def test_an_index_held_by_another_process_is_said_to_be_busy_in_one_line(settings: Settings) -> None:
    open_index(settings, create_for=[MODEL]).close()
    with held_by_another_process(settings.index):
        with pytest.raises(IndexBusyError, match="in use by another process") as caught:
            open_index(replace(settings, busy_wait_seconds=0))
        assert re.search(r"\(-c, process \d+ on \S+, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", str(caught.value))
        assert "\n" not in str(caught.value)
        assert "Qdrant server" in str(caught.value)
    open_index(settings).close()


@pytest.mark.slow
def test_the_command_waits_for_a_busy_index_and_then_says_so(settings: Settings) -> None:
    open_index(settings, create_for=[MODEL]).close()
    with held_by_another_process(settings.index):
        command = [sys.executable, "-m", "radsearch", "index", "info", "--index", settings.index]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=CHECKOUT,
            env={"RADSEARCH_BUSY_WAIT_SECONDS": "0.3"},
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"radsearch: the index in {settings.index} is in use by another process")


def test_a_missing_index_is_answered_with_the_command_that_makes_one(settings: Settings) -> None:
    with pytest.raises(IndexMissingError, match=f"python -m ingest ARCHIVE --index {settings.index}"):
        open_index(settings)
    assert not Path(settings.index).exists()


def test_a_foreign_folder_is_refused_and_stays_as_it_is(settings: Settings) -> None:
    folder = Path(settings.index)
    (folder / "holiday").mkdir(parents=True)
    (folder / "holiday" / "beach.png").write_bytes(b"sand")
    with pytest.raises(IndexMissingError, match="exists and is no index of ours"):
        open_index(settings, create_for=[MODEL])
    assert [path.relative_to(folder) for path in folder.rglob("*")] == [Path("holiday"), Path("holiday/beach.png")]
    assert (folder / "holiday" / "beach.png").read_bytes() == b"sand"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_file_in_the_place_of_the_folder_is_refused_and_stays(settings: Settings) -> None:
    Path(settings.index).write_text("mine")
    with pytest.raises(IndexMissingError):
        open_index(settings, create_for=[MODEL])
    assert Path(settings.index).read_text() == "mine"


def test_an_empty_folder_is_taken(settings: Settings) -> None:
    Path(settings.index).mkdir()
    with open_index(settings, create_for=[MODEL]) as index:
        assert index.count() == 0


def test_an_index_is_its_owners_alone(settings: Settings) -> None:
    open_index(settings, create_for=[MODEL]).close()
    assert stat.S_IMODE(Path(settings.index).stat().st_mode) == 0o700


@pytest.mark.slow
@pytest.mark.parametrize(("step", "made"), [("write_card", False), ("EmbeddedIndex", True)])
def test_a_kill_while_making_leaves_none_or_a_whole_one(settings: Settings, step: str, *, made: bool) -> None:
    """`write_card` comes before the move into place, `EmbeddedIndex` after it."""
    command = [sys.executable, "-c", MAKE_AND_DIE, settings.index, step]
    assert subprocess.run(command, check=False, cwd=CHECKOUT).returncode == 9
    assert Path(settings.index).exists() is made
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], "check")
        index.write([image(1)])
        assert index.count() == 1
        assert index.facets("models", SearchFilter()) == {"first": 1}


@pytest.mark.slow
def test_a_kill_while_admitting_a_model_is_mended_by_doing_it_again(settings: Settings) -> None:
    """The vector is there and the card does not say so yet."""
    second = replace(MODEL, model="second", dimension=3)
    open_index(settings, create_for=[MODEL]).close()
    assert (
        subprocess.run([sys.executable, "-c", ADMIT_AND_DIE, settings.index], check=False, cwd=CHECKOUT).returncode == 9
    )
    with open_index(settings) as index:
        assert set(index.card.models) == {"first"}
        index.admit([MODEL, second], "check")
        vectors = {"first": np.eye(4, dtype=np.float32)[0], "second": np.eye(3, dtype=np.float32)[1]}
        index.write([replace(image(1), vectors=vectors)])
        (stored,) = index.retrieve([image(1).id], vectors_of=["first", "second"])
    assert set(stored.vectors) == {"first", "second"}


@pytest.mark.slow
def test_what_was_written_survives_the_death_of_the_process(settings: Settings, tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path[:0] = [{str(CHECKOUT)!r}, {str(CHECKOUT / 'tests')!r}]\n"
        "from test_index_embedded import MODEL, image\n"
        "from radsearch.index import open_index\n"
        "from radsearch.settings import Settings\n"
        "index = open_index(Settings(index=sys.argv[1]), create_for=[MODEL])\n"
        "index.write([image(number) for number in range(500)])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, str(script), settings.index], check=False)
    assert done.returncode == -9
    with open_index(settings) as index:
        assert index.count() == 500


def test_an_index_of_another_version_is_refused(settings: Settings) -> None:
    open_index(settings, create_for=[MODEL]).close()
    card = Path(settings.index) / "radsearch.json"
    card.write_text(card.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(IndexMismatchError, match="format 99"):
        open_index(settings)
    with pytest.raises(IndexMismatchError, match="format 99"):  # and the folder was let go of, so that it opens again
        open_index(settings)


def test_an_index_of_before_there_was_a_choice_of_storage_opens_and_goes_on(settings: Settings) -> None:
    folder = Path(settings.index)
    (folder / "shard").mkdir(parents=True)
    shard = edge.EdgeShard.create(
        str(folder / "shard"), edge.EdgeConfig(vectors={"first": edge.EdgeVectorParams(4, edge.Distance.Cosine)})
    )
    shard.update(edge.UpdateOperation.create_field_index("content", edge.PayloadSchemaType.Keyword))
    shard.update(
        edge.UpdateOperation.upsert_points([edge.Point(image(1).id, {"first": [1.0, 0, 0, 0]}, image(1).payload)])
    )
    shard.flush()
    shard.close()
    card = {"format": 1, "secret_check": None, "models": {"first": asdict(MODEL)}}
    (folder / "radsearch.json").write_text(json.dumps(card))
    with open_index(settings) as index:
        index.admit([MODEL, replace(MODEL, model="second")], "check")
        index.write([image(2)])
        index.finish()
    with open_index(settings) as index:
        assert index.card.storage.quantization == "none"
        assert set(index.card.models) == {"first", "second"}
        assert index.count() == 2


def test_a_damaged_card_is_said_in_one_line(settings: Settings) -> None:
    open_index(settings, create_for=[MODEL]).close()
    (Path(settings.index) / "radsearch.json").write_text('{"format": 1, "mod')
    with pytest.raises(RadSearchError) as caught:
        open_index(settings)
    assert "\n" not in str(caught.value)


def test_a_damaged_shard_is_said_in_one_line(settings: Settings) -> None:
    open_index(settings, create_for=[MODEL]).close()
    for path in (Path(settings.index) / "shard").iterdir():
        if path.is_file():
            path.write_bytes(b"noise")
    with pytest.raises(RadSearchError) as caught:
        open_index(settings)
    assert "\n" not in str(caught.value)


def test_an_index_that_is_neither_folder_nor_url_is_an_error(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="neither a folder nor"):
        open_index(replace(settings, index="qdrant://host"))


def test_an_index_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IndexMissingError, match=r"no index can be made at .*file/index"):
        open_index(Settings(index=str(tmp_path / "file" / "index")), create_for=[MODEL])


@pytest.mark.slow
def test_a_model_is_added_filled_and_dropped_while_a_reader_keeps_searching(settings: Settings) -> None:
    """No search fails, and the first model's answers stay what they are."""
    random = np.random.default_rng(4)
    vectors = random.normal(size=(1500, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = [replace(image(number), vectors={"first": vector}) for number, vector in enumerate(vectors)]
    second = replace(MODEL, model="second", dimension=3)
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], "check")
        index.write(images)
        index.finish()
        query = {"first": vectors[7]}
        expected = [hit.id for hit in index.nearest(query, SearchFilter(), 5)]
        over, failed, searches = threading.Event(), [], 0

        def keep_searching() -> None:
            nonlocal searches
            while not over.is_set():
                try:
                    assert [hit.id for hit in index.nearest(query, SearchFilter(), 5)] == expected
                    assert index.count(SearchFilter(any_of={"models": ("first",)})) == len(images)
                except Exception as error:  # noqa: BLE001 -- counted
                    failed.append(error)
                searches += 1

        reader = threading.Thread(target=keep_searching)
        reader.start()
        try:
            for _ in range(2):
                index.admit([MODEL, second], "check")
                for start in range(0, len(images), 500):  # the back-fill of an ingest
                    some = images[start : start + 500]
                    index.write(
                        [
                            replace(
                                one,
                                vectors={"second": np.eye(3, dtype=np.float32)[number % 3]},
                                payload={**one.payload, "models": ["first", "second"]},
                                kept=("first",),
                            )
                            for number, one in enumerate(some)
                        ]
                    )
                index.finish()
                assert index.facets("models", SearchFilter()) == {"first": len(images), "second": len(images)}
                index.drop_model("second")
                index.finish()
                assert index.facets("models", SearchFilter()) == {"first": len(images)}
        finally:
            over.set()
            reader.join()
        assert failed == []
        assert searches > 10
