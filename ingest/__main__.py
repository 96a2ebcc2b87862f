"""`python -m ingest`: take files into the index."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from radsearch.errors import exit_code
from radsearch.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 done but some files were refused, 2 nothing could be done."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: _ingest(options))


def _ingest(options: argparse.Namespace) -> int:
    from ingest.progress import Progress
    from ingest.report import read_refused
    from ingest.run import begin
    from ingest.sources import Archive
    from ingest.whole import ingest_all

    settings = load_settings()
    if options.index:
        settings = replace(settings, index=options.index)
    only = read_refused(options.retry) if options.retry else None
    archive = Archive(options.path, options.manifest, options.dataset, options.split, only)
    with begin(archive, options.model, settings) as run:
        with Progress(
            run.ingestion.accounts, lambda: archive.count(run.pseudonymizer), as_json=options.progress_json
        ) as progress:
            ingest_all(run.ingestion, lambda: archive.files(run.pseudonymizer), progress)
        summary = run.finish(options.report)
    sys.stderr.write("\n".join(summary.lines()) + "\n")
    return summary.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ingest",
        description="Read, embed and index the DICOM, NIfTI, PNG and JPEG files of an archive. "
        "Run it again at any time: what the index holds already is left as it is.",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a folder (with all below it) or a file")
    parser.add_argument("--manifest", type=Path, metavar="CSV", help="which files to take, and what they show")
    parser.add_argument("--dataset", metavar="NAME", help="data set of the files that the manifest names none for")
    parser.add_argument("--split", metavar="NAME", help="likewise: train, val, test")
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="embed with it; may be repeated")
    parser.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write what became of every file")
    parser.add_argument("--progress-json", action="store_true", help="progress on stderr as JSON, an object a line")
    parser.add_argument("--retry", type=Path, metavar="REPORT", help="take only the files that this report refused")
    return parser


if __name__ == "__main__":
    sys.exit(main())
