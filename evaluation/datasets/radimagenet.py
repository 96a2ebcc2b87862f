"""RadImageNet: the official lists of files; what an image shows stands in its path."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from evaluation.datasets.records import Image, LeftOut, Outcome, Reading
from evaluation.datasets.tables import find_file, lines_of, rows_of

NAME = "radimagenet"
SOURCE = "https://www.radimagenet.com/ (the lists: https://github.com/BMEII-AI/RadImageNet)"
SPLITS = ("train", "val", "test")
FOLDERS = (".", "RadImageNet_split")
MODALITIES = ("CT", "MR", "US")
# Ultrasound has no folder for the finding, only US/<organ>/<file>. The paper's code maps each of its 15 folders to
# organ/normal, and this one to thyroid/nodule.
ULTRASOUND = {"thyroid_nodule": ("thyroid", "nodule")}
UNCLEAR = "path that does not name modality, region and finding"
TWICE = "listed twice in one split"
SEVERAL_SPLITS = "listed in more than one split"
IGNORED = "in the list of --ignore"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a path says: modality, region, finding."""

    modality: str
    region: str
    finding: str


def read(reading: Reading, *, ignore: Path | None = None) -> Iterator[Outcome]:
    """One outcome for each row of the three lists, RadiologyAI_train.csv, _val.csv and _test.csv.

    Column `filename` holds `radiology_ai/CT/abd/normal/abd-normal023599.png`. Region and finding are the folders' names
    with spaces for underscores. The lists name no patient, and neither does the manifest. A file that is in more
    than one list is left out of all: nobody can say whether it is to be learnt from or asked with.

    Args:
        reading: what to read, by which rules.
        ignore: a list of such file names to leave out, one a line. The paper's code has one, which is not published
            with it; its first author names empty and repeated pictures in issue 17 of BMEII-AI/RadImageNet.

    Raises:
        DatasetError: a list or its column is missing.
    """
    ignored = frozenset(lines_of(ignore)) if ignore else frozenset()
    folders = [reading.root / folder for folder in FOLDERS]
    tables = {
        split: find_file(folders, [f"RadiologyAI_{split}.csv", f"RadImageNet_{split}.csv"], SOURCE) for split in SPLITS
    }
    several = _in_several(tables)
    for split, table in tables.items():
        seen: set[str] = set()
        for name in _names(table):
            if name in ignored:
                yield LeftOut(IGNORED)
            elif name in several:
                yield LeftOut(SEVERAL_SPLITS)
            else:
                yield LeftOut(TWICE) if name in seen else _outcome(reading, name, split)
            seen.add(name)


def _in_several(tables: Mapping[str, Path]) -> set[str]:
    train, val, test = (set(_names(tables[split])) for split in SPLITS)
    return (train & val) | (train & test) | (val & test)


def _names(table: Path) -> Iterator[str]:
    return (row["filename"] for row in rows_of(table, ("filename",), SOURCE))


def _outcome(reading: Reading, name: str, split: str) -> Outcome:
    shown = shown_by(name)
    if shown is None:
        return LeftOut(UNCLEAR)
    path = reading.root / name
    if not reading.tables_only and not path.is_file():  # --root may be the folder radiology_ai itself
        path = reading.root.joinpath(*_inner(name))
    labels = (shown.finding,)
    return reading.judge(Image(path, NAME, modality=shown.modality, region=shown.region, labels=labels, split=split))


def shown_by(name: str) -> Shown | None:
    """What the path of an image says of it, or None where it does not say all."""
    parts = _inner(name)
    if len(parts) < len(("modality", "file")) or parts[0] not in MODALITIES:
        return None
    modality, *folders, _ = parts
    if modality == "US" and len(folders) == 1:
        folders = list(ULTRASOUND.get(folders[0], (folders[0], "normal")))
    if len(folders) < len(("region", "finding")):
        return None
    region, *finding = (folder.replace("_", " ") for folder in folders)
    return Shown(modality, region, "/".join(finding))


def _inner(name: str) -> tuple[str, ...]:
    """The parts of a path from the modality on."""
    parts = PurePosixPath(name).parts
    return parts if parts and parts[0] in MODALITIES else parts[1:]
