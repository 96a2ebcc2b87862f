"""`python -m evaluation dataset`: the official files of a public data set -> a manifest for the ingest."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evaluation.datasets.records import Outcome, Reading
    from evaluation.datasets.writing import Account


@dataclass(frozen=True, slots=True)
class Known:
    """A data set: what stands in the help, and how the options become its reader's outcomes."""

    words: str
    read: "Callable[[Reading, argparse.Namespace], Iterator[Outcome]]"


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add a sub-command a data set."""
    names = parser.add_subparsers(required=True, metavar="NAME")
    commands = {
        name: names.add_parser(name, help=known.words, description=known.words) for name, known in DATASETS.items()
    }
    for name, command in commands.items():
        command.add_argument("--root", type=Path, required=True, metavar="DIR", help="the folder of its official files")
        command.add_argument("--out", type=Path, required=True, metavar="CSV", help="the manifest to write")
        command.set_defaults(run=run, dataset_name=name, all_labels=False, tables_only=False)
    for name in ("nih14", "chexpert", "mimic-cxr-jpg", "medmnist"):
        words = "keep images with several labels, which the paper leaves out"
        commands[name].add_argument("--all-labels", action="store_true", help=words)
    for name in ("nih14", "chexpert", "mimic-cxr-jpg", "radimagenet"):
        words = "do not look whether the image files are there"
        commands[name].add_argument("--tables-only", action="store_true", help=words)
    for name in ("folder", "medmnist"):
        commands[name].add_argument("--modality", default="", help="of images of which nothing else says it")
        commands[name].add_argument("--region", default="", help="likewise")
    words = "keep `Effusion`, which the paper calls `Pleural Effusion` as the other data sets do"
    commands["nih14"].add_argument("--own-names", action="store_true", help=words)
    words = "a list of file names to leave out, one a line"
    commands["radimagenet"].add_argument("--ignore", type=Path, metavar="FILE", help=words)
    _add_medmnist(commands["medmnist"])


def _add_medmnist(command: argparse.ArgumentParser) -> None:
    command.add_argument("--pictures", type=Path, required=True, metavar="DIR", help="where to write the PNG files")
    words = "the classes' names: a CSV file with the columns label (a number) and name"
    command.add_argument("--classes", type=Path, metavar="CSV", help=words)
    command.add_argument("--unlabelled", default="", metavar="LABEL", help="of a picture of no class, else left out")


def run(options: argparse.Namespace) -> int:
    """Write the manifest and say on stderr where each row went; 1 where an image file is missing."""
    from evaluation.datasets.records import NO_FILE, DatasetError, Reading
    from evaluation.datasets.writing import write_manifest

    if not options.root.exists():
        raise DatasetError(f"there is no folder {options.root}")
    reading = Reading(options.root.resolve(), all_labels=options.all_labels, tables_only=options.tables_only)
    account = write_manifest(DATASETS[options.dataset_name].read(reading, options), options.out)
    _say(account, options.out)
    return 1 if account.left_out[NO_FILE] else 0


def _say(account: "Account", manifest: Path) -> None:
    from evaluation.datasets.writing import in_words

    splits = {split or "without a split": number for split, number in account.images.items()}
    sys.stderr.write(f"images in {manifest}: {account.images.total()} ({in_words(splits)})\n")
    if account.left_out:
        sys.stderr.write(f"left out: {account.left_out.total()} ({in_words(account.left_out)})\n")


def _nih14(reading: "Reading", options: argparse.Namespace) -> "Iterator[Outcome]":
    from evaluation.datasets import nih14

    return nih14.read(reading, own_names=options.own_names)


def _chexpert(reading: "Reading", _: argparse.Namespace) -> "Iterator[Outcome]":
    from evaluation.datasets import chexpert

    return chexpert.read(reading)


def _mimic_cxr_jpg(reading: "Reading", _: argparse.Namespace) -> "Iterator[Outcome]":
    from evaluation.datasets import mimic_cxr_jpg

    return mimic_cxr_jpg.read(reading)


def _radimagenet(reading: "Reading", options: argparse.Namespace) -> "Iterator[Outcome]":
    from evaluation.datasets import radimagenet

    return radimagenet.read(reading, ignore=options.ignore)


def _folder(reading: "Reading", options: argparse.Namespace) -> "Iterator[Outcome]":
    from evaluation.datasets import folder

    return folder.read(reading, modality=_modality(options.modality), region=options.region)


def _medmnist(reading: "Reading", options: argparse.Namespace) -> "Iterator[Outcome]":
    from evaluation.datasets import medmnist

    classes = medmnist.read_classes(options.classes) if options.classes else {}
    naming = medmnist.Naming(_modality(options.modality), options.region, classes, options.unlabelled)
    return medmnist.read(reading, options.pictures.resolve(), naming)


def _modality(text: str) -> str:
    from radsearch.errors import UnknownNameError
    from radsearch.reading.vocabulary import MODALITIES

    if text and text.upper() not in MODALITIES:
        raise UnknownNameError("modality", text, MODALITIES)
    return text.upper()


DATASETS = {
    "nih14": Known("NIH ChestX-ray14", _nih14),
    "chexpert": Known("CheXpert v1.0, small or full size", _chexpert),
    "mimic-cxr-jpg": Known("MIMIC-CXR-JPG 2.0.0", _mimic_cxr_jpg),
    "radimagenet": Known("RadImageNet", _radimagenet),
    "folder": Known("a folder a class, or MODALITY/region/finding, below split folders or without them", _folder),
    "medmnist": Known("a .npz file of MedMNIST's flat pictures", _medmnist),
}
