"""What test_hostile.py runs: each function makes one attack on one door, and gives the words of what came of it."""

import csv
import hashlib
import io
import json
import os
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hostile_files as files
import numpy as np
import torch

from evaluation.collection import Collection, Image
from evaluation.comparison import compare
from evaluation.datasets.records import Image as Row
from evaluation.datasets.writing import write_manifest
from evaluation.figures import measure
from evaluation.protocols import leave_patient_out
from evaluation.report import write_comparison
from evaluation.runs import write_run
from evaluation.stored import read_run
from flows.settings import load_schedules
from ingest.report import read_refused
from ingest.sources import Archive
from radsearch.commands import table
from radsearch.errors import RadSearchError, UnreadableImageError, exit_code
from radsearch.index import IndexCard, open_index
from radsearch.index.schema import facts_of
from radsearch.index.snapshots import restore
from radsearch.models import built_in_models
from radsearch.models.base import load_model
from radsearch.models.stated import refuse_disagreement
from radsearch.models.table import models_of
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify, read, study_uid
from radsearch.reading.manifest import read_rows
from radsearch.rendering import render
from radsearch.search import canonical_id
from radsearch.settings import Settings
from radsearch.study import Facts, Fingerprint, Labels
from radsearch.thumbnails import Thumbnails
from ui.cards import Shown
from ui.exporting import manifest_of, table_of
from ui.searching import read_upload
from ui.state import query_of, state_of

DEEP = 100_000
FORMULA = '=HYPERLINK("nowhere.test","x")'
STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
ORDERS = "\x1b[2J\x1b]0;title\x07"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an attack takes place. folder: a new one. trace: a file that only code of the attacker's would make."""

    folder: Path
    settings: Settings
    pseudonymizer: Pseudonymizer

    @property
    def trace(self) -> Path:
        return self.folder / "code-has-run"


class Code:
    """An object whose unpickling makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mknod, (str(self.trace),))


def said(command: Callable[[], object]) -> str:
    """The error that a person reads."""
    try:
        return f"no refusal: {command()}"
    except RadSearchError as error:
        return str(error)


# Files that are no pictures, or pictures that lie: read as an ingest and a query read them, but in this process.


def of_file(content: bytes) -> Callable[[Scene], str]:
    def attack(scene: Scene) -> str:
        path = files.write(scene.folder, content)
        try:
            chosen = identify(path, scene.pseudonymizer, name="x").chosen
            return f"{len([render(image) for image in read(path, scene.pseudonymizer, chosen)])} picture"
        except UnreadableImageError as error:
            return f"{'skipped' if error.skipped else 'refused'}: {error.reason}"

    return attack


def study_number_that_is_an_address(scene: Scene) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = files.dicom(StudyInstanceUID="1.2&redirect=//nowhere.test")
    return f"the viewer is asked for {study_uid(files.write(scene.folder, content))}"


def upload(content: bytes) -> Callable[[Scene], str]:
    return lambda scene: said(lambda: read_upload(content, scene.settings))


# Manifests and archives


def archive_of(scene: Scene) -> Path:
    """A folder with a picture; beside it a picture that is not of the archive."""
    archive = scene.folder / "archive"
    archive.mkdir()
    files.write(archive, files.png(), "inside.png")
    files.write(scene.folder, files.png(), "outside.png")
    return archive


def taken(scene: Scene, archive: Archive) -> str:
    """Why the files of an archive are not opened, but for the one that may be."""
    reasons = {file.reason for file in archive.files(scene.pseudonymizer) if file.path.name != "inside.png"}
    return ", ".join(sorted(map(str, reasons)))


def by_manifest(cell: str) -> Callable[[Scene], str]:
    """A row that names a file; `{}` is the folder outside the archive."""

    def attack(scene: Scene) -> str:
        archive = archive_of(scene)
        (archive / "out.png").symlink_to(scene.folder / "outside.png")
        (archive / "loop.png").symlink_to(archive / "loop.png")
        (archive / "up").symlink_to(scene.folder)
        row = f"filepath,patient,modality,region,labels\n{cell.replace('{}', str(scene.folder))},1,CT,chest,\n"
        manifest = files.write(archive, row.encode(), "manifest.csv")
        return taken(scene, Archive(archive, manifest))

    return attack


def manifest(content: bytes) -> Callable[[Scene], str]:
    def attack(scene: Scene) -> str:
        file = files.write(scene.folder, content, "manifest.csv")
        return said(lambda: [*read_rows(file, lambda *_: "", dataset=None, split=None)])

    return attack


HEAD = b"filepath,patient,modality,region,labels"


def walked(make: Callable[[Path, Path], object]) -> Callable[[Scene], str]:
    """make: puts something into the archive; it is told the archive and the folder outside it."""

    def attack(scene: Scene) -> str:
        archive = archive_of(scene)
        make(archive, scene.folder)
        return taken(scene, Archive(archive))

    return attack


def many_folders(scene: Scene) -> str:
    """A pipe in more folders than functions may call each other; they are removed here, as pytest could not do it."""
    archive = archive_of(scene)
    inner = [archive]
    for _number in range(1100):
        inner.append(inner[-1] / "d")
        inner[-1].mkdir()
    os.mkfifo(inner[-1] / "p")
    try:
        return taken(scene, Archive(archive))
    finally:
        (inner[-1] / "p").unlink()
        for folder in reversed(inner[1:]):
            folder.rmdir()


# What people take away


def harmless(table_text: str) -> bool:
    """Whether no cell of a CSV begins like a formula."""
    return not any(cell.startswith(STARTS) for row in csv.reader(io.StringIO(table_text)) for cell in row)


def exported(scene: Scene) -> str:
    """As a table, and as a manifest that an ingest reads back."""
    facts = Facts(Labels("CT", FORMULA, (FORMULA, "b")), dataset=FORMULA, split="@x", view="+1")
    shown = [Shown("a", facts)]
    text = manifest_of(shown)
    file = files.write(scene.folder, text.encode(), "manifest.csv")
    (row,) = read_rows(file, lambda *_: "", dataset=None, split=None)
    same = row.facts.labels == replace(facts.labels, region=FORMULA.lower()) and row.facts.dataset == FORMULA
    return told(harmless(text) and harmless(table_of(shown, {"a": FORMULA})), same=same)


def queries_of_a_run(scene: Scene) -> str:
    facts = {"modality": "CT", "region": FORMULA, "dataset": FORMULA}
    images = [Image(f"{FORMULA}{number}", f"p{number}", (FORMULA,), facts) for number in range(3)]
    collection = Collection(images, np.eye(3, dtype=np.float32), "here", {"model": "m"})
    trial = leave_patient_out(collection)
    write_run(scene.folder, collection, trial, measure(collection, trial, device="cpu"))
    same = list(read_run(scene.folder).ids) == [image.id for image in images]
    return told(harmless((scene.folder / "queries.csv").read_text(encoding="utf-8")), same=same)


def manifest_of_a_data_set(scene: Scene) -> str:
    file = scene.folder / "manifest.csv"
    path = scene.folder / "=1.png"
    write_manifest([Row(path, dataset=FORMULA, modality="CT", region="chest", labels=(FORMULA,), patient="@1")], file)
    (row,) = read_rows(file, lambda *_: "", dataset=None, split=None)
    same = (scene.folder / row.filepath).resolve() == path.resolve() and row.facts.labels.pathology == (FORMULA,)
    return told(harmless(file.read_text(encoding="utf-8")), same=same)


def told(is_harmless: bool, *, same: bool) -> str:  # noqa: FBT001 -- private to this file
    return f"{'quoted' if is_harmless else 'A FORMULA'}, and read back {'as it was' if same else 'AS ANOTHER'}"


def terminal(_: Scene) -> str:
    return "a question mark for each" if "\x1b" not in table([["heading"], [ORDERS]]) else "OBEYED"


def terminal_of_errors(_: Scene) -> str:
    def fails() -> int:
        raise RadSearchError(ORDERS)

    from contextlib import redirect_stderr

    with redirect_stderr(io.StringIO()) as stream:
        exit_code(fails)
    return "a question mark for each" if "\x1b" not in stream.getvalue() else "OBEYED"


# Models


def weights(write: Callable[[Path, Scene], object]) -> Callable[[Scene], str]:
    """A model of the user's own whose only file the attacker has written."""

    def attack(scene: Scene) -> str:
        spec = replace(built_in_models()["efficientnet-lite0"], name="mine", weights=f"path:{scene.folder}", files=())
        write(scene.folder, scene)
        return said(lambda: load_model(spec, device="cpu"))

    return attack


def pickle_of_code(folder: Path, scene: Scene) -> None:
    torch.save({"more": Code(scene.trace)}, folder / "weights.bin")


def tensors_with_a_length(length: int) -> Callable[[Path, Scene], object]:
    """Safetensors whose first eight bytes say how long the header is."""
    return lambda folder, _: files.write(folder, length.to_bytes(8, "little") + b'{"a":1}', "model.safetensors")


def tensors_beyond_the_file(folder: Path, _: Scene) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    files.write(folder, len(header).to_bytes(8, "little") + header, "model.safetensors")


def description_without_end(scene: Scene) -> str:
    files.write(scene.folder, b"[" * DEEP, "preprocessor_config.json")
    spec = next(spec for spec in built_in_models().values() if spec.library == "transformers")
    return said(lambda: refuse_disagreement(replace(spec, own_preprocessing=True), scene.folder))


def table_of_models(content: bytes) -> Callable[[Scene], str]:
    def attack(scene: Scene) -> str:
        files.write(scene.folder, content, "models.toml")
        return said(lambda: models_of(scene.folder))

    return attack


def schedules(scene: Scene) -> str:
    file = files.write(scene.folder, b"a = " + b"[" * DEEP, "flows.toml")
    return said(lambda: load_schedules(file))


# Indexes and snapshots of others


def index_card(content: bytes) -> Callable[[Scene], str]:
    def attack(scene: Scene) -> str:
        scene.settings.index_folder.mkdir()
        files.write(scene.settings.index_folder, content, "radsearch.json")
        return said(lambda: open_index(scene.settings))

    return attack


def card_that_is_a_pipe(scene: Scene) -> str:
    scene.settings.index_folder.mkdir()
    os.mkfifo(scene.settings.index_folder / "radsearch.json")
    return said(lambda: open_index(scene.settings))


def card_of(model: str) -> bytes:
    fingerprint = Fingerprint(model, "sha256:1", 4, "8 px", "float32", 1)
    return json.dumps(IndexCard(models={model: fingerprint}).as_json()).encode()


def thumbnail(name: Any, make: Callable[[Path], object] = lambda _: None) -> Callable[[Scene], str]:
    """A name that the payload of a foreign index has."""

    def attack(scene: Scene) -> str:
        folder = scene.folder / "thumbnails"
        folder.mkdir()
        files.write(scene.folder, b"secret", "outside.webp")
        make(folder)
        return f"{Thumbnails(folder).read(name)}"

    return attack


NAME = hashlib.sha256(b"").hexdigest()


def thumbnail_that_is_a_pipe(folder: Path) -> None:
    (folder / NAME[:2]).mkdir()
    os.mkfifo(folder / NAME[:2] / f"{NAME}.webp")


def snapshot(*members: tuple[str, dict[str, Any], bytes], mode: str = "w") -> Callable[[Scene], str]:
    """A TAR file that begins as a snapshot does. members: name, further fields of its header, content."""

    def attack(scene: Scene) -> str:
        file = scene.folder / "snapshot.tar"
        files.write(scene.folder, b"secret", "outside.txt")
        os.mkfifo(scene.folder / "pipe")
        with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
            for name, fields, content in (("./radsearch.json", {}, card_of("m")), *members):
                member = tarfile.TarInfo(name.replace("{}", str(scene.folder)))
                member.size = len(content)
                for field, value in fields.items():
                    setattr(member, field, value)
                if "size" in fields:  # it has not so many bytes
                    archive.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
                    continue
                archive.addfile(member, io.BytesIO(content))
        words = said(lambda: restore(file, replace(scene.settings, index=str(scene.folder / "restored"))))
        left = {path.name for path in scene.folder.iterdir()} - {"snapshot.tar", "outside.txt", "pipe", "settings"}
        return words.replace(str(scene.folder), "") if not left else f"LEFT BEHIND: {left}"

    return attack


def chain_of_links() -> list[tuple[str, dict[str, Any], bytes]]:
    """Links to folders whose true path is too long for the system to be asked for, and one back up from there.

    The `data` filter of Pythons before 3.11.13 takes its end for a place within (CVE-2025-4517).
    """
    members, deep, short = [], "", ""
    for letter in "abcdefghijklmnop":
        folder = "d" * 247
        members.append((f"./{deep}{folder}", {"type": b"5"}, b""))
        members.append((f"./{deep}{letter}", {"type": b"2", "linkname": folder}, b""))
        deep, short = f"{deep}{folder}/", f"{short}{letter}/"
    members.append((f"./{short}{'l' * 254}", {"type": b"2", "linkname": "../" * 16}, b""))
    members.append(("./out", {"type": b"2", "linkname": f"{short}{'l' * 254}/.."}, b""))
    return [*members, ("./out/escaped.txt", {}, b"x")]


def contents(names: str) -> tuple[str, dict[str, Any], bytes]:
    """The list of what a snapshot holds, naming other files."""
    return ("./snapshot.json", {}, json.dumps({"images": 0, "files": {names: "0"}}).encode())


def payload(_: Scene) -> str:
    """Of a foreign index: a list where a word should be, a word where a list should be."""
    odd = {name: [{"x": 1}] for name in ("modality", "region", "age", "sex", "patient", "extra", "thumbnail")}
    facts = facts_of({**odd, "pathology": 5})
    return "unknown" if facts == Facts() else "TAKEN"


# Files of runs, reports and addresses


def run(content: bytes) -> Callable[[Scene], str]:
    def attack(scene: Scene) -> str:
        files.write(scene.folder, content, "metrics.json")
        return said(lambda: read_run(scene.folder))

    return attack


def comparison(scene: Scene) -> str:
    """Two runs whose classes, models and data sets are markup."""
    script = "<script>alert(1)</script>"
    facts = {"modality": "CT", "region": script, "dataset": script}
    images = [Image(f"{script}{number}", f"p{number}", (script,), facts) for number in range(3)]
    for name in ("one", "other"):
        collection = Collection(images, np.eye(3, dtype=np.float32), "here", {"model": f"{script}{name}"})
        trial = leave_patient_out(collection)
        write_run(scene.folder / name, collection, trial, measure(collection, trial, device="cpu"))
    runs = [read_run(scene.folder / name) for name in ("one", "other")]
    write_comparison(scene.folder / "page.html", runs, compare(runs, ["P@1"]), None)
    page = (scene.folder / "page.html").read_text(encoding="utf-8")
    return "escaped" if "<script" not in page and "&lt;script" in page else "MARKUP"


def run_that_is_a_pipe(scene: Scene) -> str:
    os.mkfifo(scene.folder / "metrics.json")
    return said(lambda: read_run(scene.folder))


def report(scene: Scene) -> str:
    file = files.write(scene.folder, b"[" * DEEP, "report.json")
    return said(lambda: read_refused(file))


def address(_: Scene) -> str:
    words = ["../../etc/passwd", "<script>", "\0", "9" * 5000, "'; DROP TABLE", "\ud800", *map(str, range(1000))]
    names = ("id", "like", "model", "modality", "age", "part", "shown", "group", "fusion", "text", "no such")
    state = state_of({name: [*words] for name in names})
    return f"a search of {len(state.models)} models at most" if state_of(query_of(state)) == state else "ANOTHER"


def ids(_: Scene) -> str:
    words = ("../../etc/passwd", "<script>", "\0", "9" * 5000, "", "%2e%2e%2f", "1 OR 1=1", "\ud800")
    return f"{ {canonical_id(word) for word in words} }"
