"""`python -m evaluation`: measure retrieval, compare runs, draw their reports, prepare public data sets."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.studies import STUDIES
from radsearch.errors import SettingsError, exit_code
from radsearch.settings import load_settings

if TYPE_CHECKING:
    from evaluation.collection import Collection


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 done with rows or studies left out, 2 could not do it."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: int(options.run(options)))


def _parser() -> argparse.ArgumentParser:
    from evaluation import calibrating
    from evaluation.adapting import command as adapting
    from evaluation.datasets import command as datasets

    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description="How well are images like the query found?"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="search by every query of a protocol, and write the figures"))
    compare = commands.add_parser("compare", help="runs over the same queries against the first of them")
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    compare.add_argument("--json", action="store_true", help="one JSON list")
    compare.add_argument("--html", type=Path, metavar="FILE", help="also as a page")
    compare.add_argument("--pictures", type=Path, metavar="DIR", help="of the page: where the images' ids are files")
    compare.set_defaults(run=_compare)
    report = commands.add_parser("report", help="draw a run's report again")
    report.add_argument("folder", type=Path, metavar="RUN", help="folder of a run")
    report.add_argument("--pictures", type=Path, metavar="DIR", help="where the images' ids are files")
    report.set_defaults(run=_report)
    accept = commands.add_parser("accept", help="hold later runs of the same model and protocol to this one")
    accept.add_argument("folder", type=Path, metavar="RUN", help="folder of a run, beside those that are held to it")
    accept.set_defaults(run=_accept)
    adapting.add_to(commands.add_parser("adapt", help="learn a model from an archive's labels, on stored vectors"))
    calibrating.add_to(commands.add_parser("calibrate", help="what a score is worth, and what is refused as strange"))
    datasets.add_to(commands.add_parser("dataset", help="make a manifest of a public data set's own files"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="whose vectors (default: RADSEARCH_MODEL, or the file's name)")
    parser.add_argument("--protocol", choices=("denner2024", "leave-patient-out"), default="leave-patient-out")
    parser.add_argument("--study", action="append", default=[], choices=tuple(STUDIES), help="also; may be repeated")
    parser.add_argument("--single-label", action="store_true", help="only images of one finding")
    parser.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
    parser.add_argument("--vectors", type=Path, metavar="FILE.npy", help="published embeddings instead of an index")
    parser.add_argument("--manifest", type=Path, metavar="CSV", help="a row for each of the vectors")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="where the manifest's files are, for the report")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: evaluation-runs/...)")
    parser.add_argument("--memory", type=int, default=512, metavar="MB", help="of the search (default: 512)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from evaluation.running import Asked, folder_of, make_run

    settings = load_settings()
    model = options.model or (settings.model if options.vectors is None else options.vectors.stem)
    model = model.encode("utf-8", "backslashreplace").decode()  # a file's name may be no text
    asked = Asked(
        options.out or folder_of(Path("evaluation-runs"), options.protocol, model),
        options.protocol,
        options.single_label,
        options.study,
        options.pictures,
        options.memory,
    )
    with asked.prepared():
        collection, recall = _collection(options, model)
        made = make_run(collection, recall, asked, settings, print)
    for name, reason in made.undone.items():
        print(f"the study {name} could not be made: {reason}", file=sys.stderr)  # noqa: T201
    print(f"the run is in {asked.folder}", file=sys.stderr)  # noqa: T201
    return 1 if made.undone else 0


def _collection(options: argparse.Namespace, model: str) -> "tuple[Collection, float | None]":
    """The images, and the recall of their index where they are from one."""
    from evaluation.collection import from_files
    from evaluation.running import read_index
    from radsearch.commands import settings_of

    if (options.vectors is None) != (options.manifest is None):
        raise SettingsError("--vectors and --manifest go together")
    if options.vectors is not None:
        if options.index:
            raise SettingsError("say one of --index and --vectors")
        return from_files(options.vectors, options.manifest, model), None
    return read_index(settings_of(options), model)


def _compare(options: argparse.Namespace) -> int:
    from evaluation.comparison import compare, comparison_lines
    from evaluation.report import write_comparison
    from evaluation.running import check_pictures
    from evaluation.stored import read_run

    check_pictures(options.pictures)
    runs = [read_run(folder) for folder in options.runs]
    comparisons = compare(runs)
    if options.html:
        write_comparison(options.html, runs, comparisons, options.pictures)
    if options.json:
        print(json.dumps([asdict(one) for one in comparisons]))  # noqa: T201
        return 0
    for one in comparisons:
        print("\n".join(comparison_lines(one)))  # noqa: T201
    return 0


def _report(options: argparse.Namespace) -> int:
    from evaluation.report import write_report
    from evaluation.running import check_pictures

    check_pictures(options.pictures)
    print(write_report(options.folder, options.pictures))  # noqa: T201
    return 0


def _accept(options: argparse.Namespace) -> int:
    import getpass

    from evaluation.history import accept
    from evaluation.telling import summary_lines

    try:
        person = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        person = "somebody without a name"
    run = accept(options.folder, person)
    print("\n".join(summary_lines(run.metrics)))  # noqa: T201
    print(f"later runs beside {options.folder} are held to it", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
