"""An inbox: what has come to rest is taken once, moved whole, and a kill at any moment loses nothing."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ingest.inbox import Outcomes, Visit, hold
from ingest.moving import move
from radsearch.catalogue import Catalogue
from radsearch.errors import IndexUnreachableError, RadSearchError, SettingsError

QUIET = 60.0
OTHER_DISK = Path("/dev/shm")  # noqa: S108 -- a folder of its own is made there


class Clinic:
    """An inbox that is looked at by a clock of the test's own, and an ingest that notes what it is given."""

    def __init__(self, folder: Path, done: Path | None) -> None:
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.done = done
        self.catalogue: Catalogue | None = None
        self.given: list[list[str]] = []
        self.outcomes: dict[str, tuple[str, str | None]] = {}

    def send(self, name: str, content: bytes = b"pixels", *, modified: float | None = None) -> Path:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if modified is not None:
            os.utime(path, (modified, modified))
        return path

    def ingest(self, names: frozenset[str]) -> Outcomes:
        self.given.append(sorted(names))
        return [(name, *self.outcomes.get(name, ("indexed", None))) for name in sorted(names)]

    def look(
        self, now: float, quiet: float = QUIET, ingest: Callable[[frozenset[str]], Outcomes] | None = None
    ) -> Visit:
        with hold(self.inbox, done=self.done, catalogue=self.catalogue) as inbox:
            assert inbox is not None
            return inbox.visit(quiet, ingest or self.ingest, clock=lambda: now)

    def taken(self, now: float) -> list[str]:
        """What a look at that time takes."""
        self.given = []
        self.look(now)
        return [name for names in self.given for name in names]

    def left(self) -> list[str]:
        return names_in(self.inbox)


def names_in(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] != ".radsearch-inbox")


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path, tmp_path / "done")


@pytest.fixture
def keeping(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path, None)


@pytest.fixture
def other_disk() -> Iterator[Path]:
    if not OTHER_DISK.is_dir():
        pytest.skip("needs a second file system")
    with TemporaryDirectory(dir=OTHER_DISK) as folder:
        yield Path(folder)


def test_a_series_is_taken_when_it_has_been_quiet_for_the_stated_time(clinic: Clinic) -> None:
    clinic.send("study/1.dcm")
    clinic.send("study/2.dcm")
    assert clinic.taken(1000.0) == []
    assert clinic.taken(1059.0) == []
    assert clinic.taken(1060.0) == ["study/1.dcm", "study/2.dcm"]
    assert clinic.left() == []
    assert names_in(clinic.inbox.parent / "done") == ["study/1.dcm", "study/2.dcm"]


def test_a_file_that_comes_later_holds_its_own_series_back_and_no_other(clinic: Clinic) -> None:
    clinic.send("late/1.dcm")
    clinic.send("whole/1.dcm")
    clinic.look(1000.0)
    clinic.send("late/2.dcm")
    clinic.look(1050.0)
    assert clinic.taken(1070.0) == ["whole/1.dcm"]
    assert clinic.taken(1110.0) == ["late/1.dcm", "late/2.dcm"]


def test_a_file_that_is_taken_away_counts_as_a_change(clinic: Clinic) -> None:
    clinic.send("study/1.dcm")
    gone = clinic.send("study/2.dcm")
    clinic.look(1000.0)
    gone.unlink()
    assert clinic.taken(1060.0) == []
    assert clinic.taken(1120.0) == ["study/1.dcm"]


@pytest.mark.parametrize("modified", [0.0, 946_684_800.0, 4_102_444_800.0])
def test_neither_an_old_time_nor_another_clock_makes_a_growing_file_look_quiet(clinic: Clinic, modified: float) -> None:
    clinic.send("1.dcm", b"half", modified=modified)
    assert clinic.taken(5000.0) == []
    clinic.send("1.dcm", b"half, and more", modified=modified)
    assert clinic.taken(5060.0) == []
    assert clinic.taken(5120.0) == ["1.dcm"]


def test_a_clock_that_was_set_back_does_not_hold_files_for_ever(clinic: Clinic) -> None:
    clinic.send("1.dcm")
    clinic.look(90_000.0)
    assert clinic.taken(1000.0) == []
    assert clinic.taken(1060.0) == ["1.dcm"]


@pytest.mark.parametrize(
    "name", ["1.dcm.part", "1.TMP", "1.dcm.filepart", ".1.dcm.Xa81bQ", ".rsync-partial/1.dcm", "1~"]
)
def test_names_of_unfinished_files_are_never_taken(clinic: Clinic, name: str) -> None:
    path = clinic.send(f"study/{name}")
    clinic.look(1000.0)
    assert clinic.taken(99_000.0) == []
    path.rename(clinic.inbox / "study" / "1.dcm")
    clinic.look(100_000.0)
    assert clinic.taken(100_060.0) == ["study/1.dcm"]


def test_an_unfinished_file_that_grows_holds_its_series_back_and_an_abandoned_one_does_not(clinic: Clinic) -> None:
    clinic.send("study/1.dcm")
    clinic.send("study/2.dcm.part", b"1")
    clinic.look(1000.0)
    clinic.send("study/2.dcm.part", b"12")
    assert clinic.taken(1060.0) == []
    assert clinic.taken(1120.0) == ["study/1.dcm"]
    assert clinic.left() == ["study/2.dcm.part"]


def test_in_a_folder_that_is_never_quiet_a_file_waits_ten_times_as_long(clinic: Clinic) -> None:
    taken_at = {}
    for minute in range(25):
        clinic.send(f"{minute:02}.dcm")
        for name in clinic.taken(1000.0 + 30.0 * minute):
            taken_at[name] = minute
    assert taken_at == {f"{minute:02}.dcm": minute + 20 for minute in range(5)}


def test_files_that_stay_are_taken_once_and_again_when_they_change(keeping: Clinic) -> None:
    keeping.send("1.dcm")
    keeping.send("2.dcm")
    keeping.look(1000.0)
    assert keeping.taken(1060.0) == ["1.dcm", "2.dcm"]
    assert keeping.taken(2000.0) == []
    keeping.send("1.dcm", b"another")
    keeping.look(2100.0)
    assert keeping.taken(2160.0) == ["1.dcm"]
    assert keeping.left() == ["1.dcm", "2.dcm"]


def test_the_catalogue_follows_a_file_that_is_moved_away(clinic: Clinic, tmp_path: Path) -> None:
    clinic.catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    clinic.catalogue.record([("one", clinic.send("s/1.dcm")), ("other", tmp_path / "elsewhere")])
    clinic.look(0)
    clinic.look(QUIET)
    assert clinic.left() == []
    assert clinic.catalogue.path_of("one") == tmp_path / "done" / "s" / "1.dcm"
    assert clinic.catalogue.path_of("other") == tmp_path / "elsewhere"


def test_refused_files_go_where_nobody_tries_them_again(clinic: Clinic) -> None:
    clinic.outcomes = {"a/bad.dcm": ("refused", "truncated file"), "a/notes.txt": ("skipped", "not an image")}
    for name in ("a/bad.dcm", "a/good.dcm", "a/notes.txt"):
        clinic.send(name)
    visit = clinic.look(1000.0, quiet=0)
    assert visit.line() == "1 series taken, 1 files refused, 0 files wait"
    assert names_in(clinic.inbox.parent / "done") == ["a/good.dcm", "a/notes.txt", "refused/a/bad.dcm"]
    assert not (clinic.inbox / "a").exists()
    assert clinic.inbox.is_dir()


def test_refused_files_that_stay_are_not_tried_each_minute(keeping: Clinic) -> None:
    keeping.outcomes = {"bad.dcm": ("refused", "truncated file")}
    keeping.send("bad.dcm")
    assert keeping.look(1000.0, quiet=0).settled == {"refused": 1}
    assert keeping.taken(2000.0) == []


def test_a_fault_of_the_disk_gets_two_more_tries(clinic: Clinic) -> None:
    clinic.outcomes = {"1.dcm": ("refused", "file cannot be read (EIO)")}
    clinic.send("1.dcm")
    visits = [clinic.look(1000.0 + minute, quiet=0) for minute in range(3)]
    assert [visit.settled for visit in visits] == [{"waits": 1}, {"waits": 1}, {"refused": 1}]
    assert [visit.waiting for visit in visits] == [1, 1, 0]
    assert names_in(clinic.inbox.parent / "done") == ["refused/1.dcm"]


def test_files_stay_for_the_next_run_where_the_ingest_cannot_be_made(clinic: Clinic) -> None:
    clinic.send("1.dcm")

    def unreachable(_names: frozenset[str]) -> Outcomes:
        raise IndexUnreachableError("the server does not answer")

    with pytest.raises(IndexUnreachableError):
        clinic.look(1000.0, quiet=0, ingest=unreachable)
    assert clinic.left() == ["1.dcm"]
    assert clinic.taken(1060.0) == ["1.dcm"]


def test_what_an_ingest_did_not_come_to_stays(clinic: Clinic) -> None:
    clinic.send("1.dcm")
    clinic.send("2.dcm")
    visit = clinic.look(1000.0, quiet=0, ingest=lambda _: [("1.dcm", "indexed", None)])
    assert (clinic.left(), visit.waiting) == (["2.dcm"], 1)


def test_a_file_that_is_sent_again_during_its_ingest_is_not_moved_away(clinic: Clinic) -> None:
    clinic.send("1.dcm")

    def overtaken(names: frozenset[str]) -> Outcomes:
        clinic.send("1.dcm", b"a second version")
        return clinic.ingest(names)

    clinic.look(1000.0, quiet=0, ingest=overtaken)
    assert clinic.left() == ["1.dcm"]
    clinic.look(2000.0)
    assert clinic.taken(2060.0) == ["1.dcm"]
    assert (clinic.inbox.parent / "done" / "1.dcm").read_bytes() == b"a second version"


def test_links_are_neither_followed_nor_moved(clinic: Clinic, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.dcm").write_bytes(b"x")
    clinic.send("1.dcm")
    (clinic.inbox / "file.dcm").symlink_to(tmp_path / "outside" / "secret.dcm")
    (clinic.inbox / "folder").symlink_to(tmp_path / "outside")
    visit = clinic.look(1000.0, quiet=0)
    assert clinic.given == [["1.dcm"]]
    assert visit.found.links == 2
    assert (clinic.inbox / "file.dcm").is_symlink()
    assert (tmp_path / "outside" / "secret.dcm").is_file()


def test_an_index_in_the_inbox_and_a_done_folder_in_it_are_left_alone(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path, tmp_path / "inbox" / "done")
    clinic.send("index/radsearch.json")
    clinic.send("index/shard/1")
    clinic.send("new/1.dcm")
    assert clinic.look(1000.0, quiet=0).series == 1
    assert clinic.given == [["new/1.dcm"]]
    assert clinic.look(2000.0, quiet=0).series == 0
    assert clinic.left() == ["done/new/1.dcm", "index/radsearch.json", "index/shard/1"]


def test_a_name_that_is_no_text_is_taken_and_moved(clinic: Clinic) -> None:
    raw = os.fsdecode(b"M\xfcller.dcm")
    clinic.send(raw)
    clinic.look(1000.0, quiet=0)
    assert clinic.given == [["M\\udcfcller.dcm"]]
    assert [path.name for path in (clinic.inbox.parent / "done").iterdir()] == [raw]


def test_two_runs_at_the_same_time_do_not_meet(clinic: Clinic) -> None:
    with hold(clinic.inbox) as first, hold(clinic.inbox) as second:
        assert first is not None
        assert second is None
    with hold(clinic.inbox) as third:
        assert third is not None


def test_what_cannot_be_used_is_said_in_one_sentence(clinic: Clinic, tmp_path: Path) -> None:
    for folder, done, words in (
        (tmp_path / "gone", None, "there is no inbox"),
        (clinic.inbox, clinic.inbox, "that is the inbox, or holds it"),
        (clinic.inbox, tmp_path, "that is the inbox, or holds it"),
    ):
        with pytest.raises(SettingsError, match=words), hold(folder, done=done):
            pass
    with pytest.raises(SettingsError, match="state cannot be in"), hold(clinic.inbox, state=clinic.inbox):
        pass
    with hold(clinic.inbox, state=tmp_path / "state"):
        pass
    (tmp_path / "state" / "files-1.sqlite").write_bytes(b"no database" * 1000)
    with (
        pytest.raises(RadSearchError, match="remove it, which loses nothing"),
        hold(clinic.inbox, state=tmp_path / "state"),
    ):
        pass


def test_a_full_disk_stops_the_moving_and_the_next_run_goes_on_without_an_ingest(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.send("1.dcm")
    clinic.send("2.dcm")
    tried = []

    def full(source: Path, _target: Path) -> None:
        tried.append(source.name)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("ingest.inbox.move", full)
        visit = clinic.look(1000.0, quiet=0)
    assert tried == ["1.dcm"]
    assert visit.line() == "1 series taken, 0 files wait; 1 could not be moved away (No space left on device)"
    assert clinic.left() == ["1.dcm", "2.dcm"]
    assert clinic.taken(2000.0) == []
    assert clinic.left() == []


@pytest.mark.parametrize("disk", ["same", "other"])
def test_moving_overwrites_nothing(tmp_path: Path, other_disk: Path, disk: str) -> None:
    target = {"same": tmp_path, "other": other_disk}[disk] / "done" / "1.dcm"
    for content in (b"first", b"second", b"first", b"third", b"second"):
        (tmp_path / "1.dcm").write_bytes(content)
        move(tmp_path / "1.dcm", target)
        assert not (tmp_path / "1.dcm").exists()
    there = {path.name: path.read_bytes() for path in target.parent.iterdir()}
    assert there == {"1.dcm": b"first", "1.1.dcm": b"second", "1.2.dcm": b"third"}


def test_a_file_that_may_not_be_linked_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", forbidden)
    (tmp_path / "1.dcm").write_bytes(b"x")
    move(tmp_path / "1.dcm", tmp_path / "done" / "1.dcm")
    assert names_in(tmp_path) == ["done/1.dcm"]


@pytest.mark.parametrize("disk", ["same", pytest.param("other", marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_each_file_somewhere_and_the_next_run_finishes(
    tmp_path: Path, other_disk: Path, disk: str
) -> None:
    done = {"same": tmp_path, "other": other_disk}[disk] / "done"
    kills = 0
    while True:
        place = tmp_path / str(kills)
        place.mkdir()
        clinic = Clinic(place, done / str(kills))
        contents = {"a/1.dcm": b"one", "b/2.dcm": b"two"}
        clinic.outcomes = {"b/2.dcm": ("refused", "truncated file")}
        for name, content in contents.items():
            clinic.send(name, content)
        killed = look_until_killed(clinic, after=kills)
        found = {path.read_bytes() for root in (clinic.inbox, done) for path in root.rglob("*.dcm")}
        assert set(contents.values()) <= found
        clinic.look(2000.0, quiet=0)
        moved = clinic.done
        assert moved is not None
        assert {name: (moved / name).read_bytes() for name in names_in(moved)} == {
            "a/1.dcm": b"one",
            "refused/b/2.dcm": b"two",
        }
        assert [path.name for path in clinic.inbox.iterdir()] == [".radsearch-inbox"]
        if not killed:
            break
        kills += 1
    assert kills > 10


def look_until_killed(clinic: Clinic, *, after: int) -> bool:
    """Look in a process of its own that ends without a word when it has asked the system for so many things."""
    child = os.fork()
    if child == 0:
        left = after

        def count(event: str, _: object) -> None:
            nonlocal left
            if event in {"open", "os.link", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.copyfile"}:
                left -= 1
                if left < 0:
                    os._exit(9)

        sys.addaudithook(count)
        clinic.look(1000.0, quiet=0)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in {0, 9}
    return os.waitstatus_to_exitcode(status) == 9


def test_a_file_is_never_moved_onto_itself_by_another_path(tmp_path: Path) -> None:
    source = tmp_path / "inbox" / "a.png"
    source.parent.mkdir()
    source.write_bytes(b"the only copy")
    (tmp_path / "done").symlink_to(tmp_path / "inbox")
    with pytest.raises(OSError, match="Invalid argument"):
        move(source, tmp_path / "done" / "a.png")
    assert source.read_bytes() == b"the only copy"
