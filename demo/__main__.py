"""`python -m demo`: index real studies, search them four ways, draw the hits. Everything stays in the folder .demo."""

import csv
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from demo.sheet import Row, Tile, draw_sheet
from demo.studies import LUNG_TERMS, fetch_lung_studies, sample_files
from radsearch.commands import table
from radsearch.errors import RadSearchError, UnreadableImageError, exit_code
from radsearch.index import open_index
from radsearch.privacy import Pseudonymizer, load_pseudonymizer
from radsearch.reading import identify, read
from radsearch.rendering import render
from radsearch.search import Searcher, Wanted
from radsearch.settings import Settings, load_settings
from radsearch.study import Hit, Picture, SearchFilter

_FOLDER = Path(__file__).resolve().parent.parent / ".demo"
_INDEX = _FOLDER / "index"
_LUNG = _FOLDER / "lung"
_SHEET = _FOLDER / "contact-sheet.png"
_REPORTS = _FOLDER / "reports"
_RUNS = _FOLDER / "runs"
_HITS = 5
_COMMAND = ".venv/bin/radsearch search"


@dataclass(frozen=True, slots=True)
class Search:
    """One of the demo's searches: how a user would type it, by which file, and what is wanted."""

    title: str
    command: str
    query: Path
    wanted: Wanted
    by_id: bool = False


def main() -> int:
    """Run the demo; 0 where all of it worked."""
    return exit_code(_demo)


def _demo() -> int:
    _keep_to_our_folder()
    settings = load_settings()
    _say(f"1. Studies\n   {LUNG_TERMS}")
    manifest = fetch_lung_studies(_LUNG)
    _say(f"   pydicom-data: the sample files of the pydicom project, {_shown(sample_files())}")
    _say("2. Ingest, as a Prefect flow")
    _ingest(sample_files(), None, "samples")
    _ingest(_LUNG, manifest, "lung")
    _say(
        "3. Four searches; to type them yourself, first:\n"
        f"   $ export RADSEARCH_INDEX={_shown(_INDEX)} RADSEARCH_SECRET_FILE={_shown(_FOLDER / 'secret')}"
    )
    pseudonymizer = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file)
    with open_index(settings) as index:
        searcher = Searcher(index, settings, pseudonymizer)
        pictures = Pictures(pseudonymizer)
        rows = [_run(search, searcher, pictures) for search in _searches(manifest)]
    draw_sheet(rows, _SHEET)
    _evaluate(settings)
    _say_where_next()
    return 0


def _keep_to_our_folder() -> None:
    """Index, secret and Prefect's own records of the demo stay beside each other, apart from the user's."""
    for name in [name for name in os.environ if name.startswith("RADSEARCH_")]:
        del os.environ[name]
    os.environ["RADSEARCH_INDEX"] = str(_INDEX)
    os.environ["RADSEARCH_SECRET_FILE"] = str(_FOLDER / "secret")
    os.environ["RADSEARCH_CATALOGUE"] = str(_FOLDER / "catalogue.sqlite")
    os.environ["RADSEARCH_BURNED_IN"] = "allow"  # all of its files are published
    os.environ["PREFECT_HOME"] = str(_FOLDER / "prefect")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")


def _ingest(folder: Path, manifest: Path | None, name: str) -> None:
    from flows.ingest_archive import ingest_archive

    report = _REPORTS / f"{name}.json"
    state = ingest_archive(path=folder, manifest=manifest, report=report, return_state=True)
    _say(f"   {name}: {state.message}")
    if not state.is_completed():
        raise RadSearchError(f"the ingest of {name} did not complete")
    _say_what_was_left_out(report)


def _say_what_was_left_out(report: Path) -> None:
    figures = json.loads(report.read_text(encoding="utf-8"))
    for outcome in ("skipped", "refused"):
        for reason, number in figures[outcome].items():
            _say(f"      {outcome}: {number} x {reason}")
    _say(f"      every file with its outcome: {_shown(report)}")


def _evaluate(settings: Settings) -> None:
    from evaluation.running import Asked, folder_of, make_run, read_index
    from evaluation.stored import REPORT

    asked = Asked(folder_of(_RUNS, "leave-patient-out", settings.model))
    with asked.prepared():
        told = make_run(*read_index(settings, settings.model), asked, settings, lambda _words: None).metrics
    _say(
        f"\n   How often has the nearest image of another patient the same finding? {told['micro']['P@1']:.2f} of "
        f"{told['queries']} queries; by chance {told['chance']['P@1']:.2f}.\n   {_shown(asked.folder / REPORT)}"
    )


def _searches(manifest: Path) -> list[Search]:
    samples = sample_files()
    tumour = _a_tumour_slice(manifest)
    return [
        Search(
            "A CT slice through a lung tumour, only images with a tumour: other patients' come back",
            f"{_COMMAND} {_shown(tumour)} --pathology Tumor",
            tumour,
            Wanted(_HITS, SearchFilter(pathology=("Tumor",))),
        ),
        Search(
            "An indexed image: an ultrasound of a lymph node",
            f"{_COMMAND} --id {{id}}",
            samples / "US1_UNCR.dcm",
            Wanted(_HITS),
            by_id=True,
        ),
        Search(
            "A file, only MR: a shoulder",
            f"{_COMMAND} {_shown(samples / 'MR2_UNCR.dcm')} --modality MR",
            samples / "MR2_UNCR.dcm",
            Wanted(_HITS, SearchFilter(modality=("MR",))),
        ),
        Search(
            "A lossy re-encoding of a chest radiograph, its own patient allowed: its lossless siblings come first",
            f"{_COMMAND} {_shown(samples / 'RG1_J2KI.dcm')} --allow-same-patient",
            samples / "RG1_J2KI.dcm",
            Wanted(_HITS, allow_same_patient=True),
        ),
    ]


def _a_tumour_slice(manifest: Path) -> Path:
    """The middle one of the first patient's slices with a tumour."""
    with manifest.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["labels"] == "Tumor"]
    of_first = sorted((row for row in rows if row["patient"] == rows[0]["patient"]), key=lambda row: int(row["slice"]))
    return manifest.parent / of_first[len(of_first) // 2]["filepath"]


def _run(search: Search, searcher: Searcher, pictures: "Pictures") -> Row:
    point = pictures.id_of(search.query)
    hits = searcher.by_id(point, search.wanted) if search.by_id else searcher.by_image(search.query, search.wanted)
    _say(f"\n   {search.title}\n   $ {search.command.format(id=point)}\n")
    rows = [("rank", "score", "modality", "region", "pathology", "file")]
    for hit in hits:
        labels = hit.facts.labels
        told = (labels.modality or "-", labels.region or "-", ", ".join(labels.pathology) or "-", pictures.name(hit))
        rows.append((str(hit.rank), f"{hit.score:.3f}", *told))
    _say("\n".join("   " + line for line in table(rows).splitlines()))
    query = Tile(pictures.of_file(search.query), "query", search.query.name)
    return Row(search.title, query, [_tile(hit, pictures) for hit in hits])


def _tile(hit: Hit, pictures: "Pictures") -> Tile:
    labels = hit.facts.labels
    words = [word for word in (labels.modality, labels.region, ", ".join(labels.pathology)) if word]
    return Tile(pictures.of_hit(hit), f"{hit.rank}.  {hit.score:.3f}  {' '.join(words)}", pictures.name(hit))


class Pictures:
    """The way back from a hit to its picture. The index holds no paths: the demo knows its files and works it out."""

    def __init__(self, pseudonymizer: Pseudonymizer) -> None:
        self._pseudonymizer = pseudonymizer
        self._files: dict[str, tuple[Path, int]] = {}
        for path in sorted([*sample_files().iterdir(), *_LUNG.rglob("*.dcm")]):
            try:
                identity = identify(path, pseudonymizer, name=str(path))
            except UnreadableImageError:
                continue
            for frame in range(1, identity.frames + 1):
                self._files.setdefault(pseudonymizer.point_id(identity.instance, frame), (path, frame))

    def id_of(self, path: Path) -> str:
        """The id of the file's first frame in the index."""
        identity = identify(path, self._pseudonymizer, name=str(path))
        return self._pseudonymizer.point_id(identity.instance, 1)

    def of_file(self, path: Path, frame: int = 1) -> Picture:
        """The picture of one frame."""
        return next(render(image) for image in read(path, self._pseudonymizer) if image.frame == frame)

    def of_hit(self, hit: Hit) -> Picture:
        """The picture of a hit."""
        return self.of_file(*self._files[hit.id])

    def name(self, hit: Hit) -> str:
        """File and frame of a hit."""
        path, frame = self._files[hit.id]
        folder = f"{path.parent.name}/" if path.is_relative_to(_LUNG) else ""
        return f"{folder}{path.name}" + (f" frame {frame}" if frame > 1 else "")


def _say_where_next() -> None:
    _say(
        f"\n4. Where next\n   look at the hits:     {_shown(_SHEET)}\n"
        "   open the page:        make ui\n"
        "   your own folder:      .venv/bin/python -m ingest FOLDER --index my-index --report report.json\n"
        "   search it:            .venv/bin/python -m radsearch search IMAGE --index my-index\n"
    )


def _shown(path: Path) -> str:
    """The path as a user in this folder would type it."""
    return os.path.relpath(path)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 -- the demo's output is what it is for


if __name__ == "__main__":
    sys.exit(main())
