"""`radsearch search`: by an image, an indexed one, text, or examples."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from radsearch.commands import settings_of, table
from radsearch.errors import RadSearchError
from radsearch.study import Hit, SearchFilter

if TYPE_CHECKING:
    from radsearch.search import Searcher, Wanted


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="a DICOM, NIfTI, PNG or JPEG file")
    parser.add_argument(
        "--frame",
        type=int,
        metavar="N",
        help="frame of IMAGE, from 1 (default: the middle one of those that an ingest takes)",
    )
    parser.add_argument("--id", metavar="ID", help="an indexed image")
    parser.add_argument("--text", help="words as they are, for models that read text")
    parser.add_argument("--finding", metavar="WORDS", help="a finding, said in several ways, for models that read text")
    _add_repeatable(parser, "--like", "ID", "an indexed image like the wanted ones")
    _add_repeatable(parser, "--unlike", "ID", "an indexed image unlike the wanted ones")
    _add_repeatable(parser, "--model", "NAME", "search by its vectors; several are fused")
    _add_repeatable(parser, "--modality", "M", "only this modality (XR: also CR, DX, RG)")
    _add_repeatable(parser, "--region", "R", "only this region")
    _add_repeatable(parser, "--pathology", "P", "only images with this finding")
    _add_repeatable(parser, "--not-pathology", "P", "no images with this finding")
    _add_repeatable(parser, "--dataset", "D", "only this data set")
    parser.add_argument("--allow-same-patient", action="store_true", help="also images of the query's own patient")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of hits (default: 10)")
    parser.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
    parser.add_argument("--json", action="store_true", help="one JSON object a hit")
    parser.set_defaults(run=_search)


def _add_repeatable(parser: argparse.ArgumentParser, name: str, value: str, words: str) -> None:
    parser.add_argument(name, action="append", default=[], metavar=value, help=f"{words}; may be repeated")


def _search(options: argparse.Namespace) -> int:
    from radsearch.index import open_index
    from radsearch.privacy import load_pseudonymizer
    from radsearch.search import Searcher, Wanted

    settings = settings_of(options)
    where = SearchFilter(
        modality=tuple(code.upper() for code in options.modality),
        region=tuple(options.region),
        pathology=tuple(options.pathology),
        pathology_none=tuple(options.not_pathology),
        dataset=tuple(options.dataset),
    )
    wanted = Wanted(options.k, where, tuple(options.model), options.allow_same_patient)
    _check_query(options)
    with open_index(settings) as index:
        pseudonymizer = None
        if options.image is not None:
            pseudonymizer = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
            index.admit((), pseudonymizer.check)
        searcher = Searcher(index, settings, pseudonymizer)
        if options.image is not None:
            hits = _by_file(searcher, options, wanted)
        elif options.text is not None:
            hits = searcher.by_text(options.text, wanted)
        elif options.finding is not None:
            hits = searcher.by_finding(options.finding, wanted)
        else:
            liked = [*([options.id] if options.id else []), *options.like]
            hits = searcher.like(liked, options.unlike, wanted)
    _print_hits(hits, as_json=options.json)
    return 0


def _check_query(options: argparse.Namespace) -> None:
    """One kind of query at a time."""
    examples = options.id is not None or options.like or options.unlike
    kinds = [options.image is not None, options.text is not None, options.finding is not None, bool(examples)]
    if sum(kinds) != 1:
        raise RadSearchError(
            "say what to search by: one of IMAGE, --text, --finding, or --id / --like (with or without --unlike)"
        )
    if options.k < 1:
        raise RadSearchError("-k is 1 or more")


def _by_file(searcher: "Searcher", options: argparse.Namespace, wanted: "Wanted") -> list[Hit]:
    from radsearch.errors import UnreadableImageError

    try:
        return searcher.by_image(options.image, wanted, frame=options.frame)
    except UnreadableImageError as error:
        raise RadSearchError(f"the query cannot be read: {error.reason}") from error
    except OSError as error:
        raise RadSearchError(f"the query cannot be opened: {error.strerror}") from error


def _print_hits(hits: Sequence[Hit], *, as_json: bool) -> None:
    if as_json:
        for hit in hits:
            print(json.dumps(hit_as_json(hit)))  # noqa: T201 -- data goes to stdout
        return
    rows: list[tuple[str, ...]] = [("rank", "score", "modality", "region", "pathology", "dataset", "frame", "id")]
    for hit in hits:
        labels = hit.facts.labels
        findings = ", ".join(labels.pathology)
        cells = (labels.modality, labels.region, findings, hit.facts.dataset, str(hit.frame or ""), hit.id)
        rows.append((str(hit.rank), f"{hit.score:.4f}", *(cell or "-" for cell in cells)))
    print(table(rows))  # noqa: T201


def hit_as_json(hit: Hit) -> dict[str, object]:
    """The object of the contract: `id, score, rank, modality, region, pathology, patient, study, ...`."""
    facts = hit.facts
    return {
        "id": hit.id,
        "score": round(hit.score, 6),
        "rank": hit.rank,
        "modality": facts.labels.modality,
        "region": facts.labels.region,
        "pathology": list(facts.labels.pathology),
        "patient": facts.patient,
        "study": facts.study,
        "series": facts.series,
        "dataset": facts.dataset,
        "split": facts.split,
        "frame": hit.frame,
    }
