"""`radsearch search`: by an image, an indexed one, text, examples, or a series."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from radsearch.commands import settings_of, table
from radsearch.errors import RadSearchError
from radsearch.study import Hit, SearchFilter, Span

if TYPE_CHECKING:
    from radsearch.search import Nearness, Searcher, Wanted
    from radsearch.settings import Settings

_MOST_HITS = 10_000


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "image", nargs="*", type=Path, metavar="IMAGE", help="a DICOM, NIfTI, PNG or JPEG file, or several of one kind"
    )
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
    parser.add_argument("--series", metavar="ID", help="an indexed series (its pseudonym, or an image of it) -> series")
    parser.add_argument(
        "--as-series", action="store_true", help="IMAGE are slices of one series (or one volume) -> series"
    )
    _add_repeatable(parser, "--model", "NAME", "search by its vectors; several are fused")
    _add_repeatable(parser, "--modality", "M", "only this modality (XR: also CR, DX, RG)")
    _add_repeatable(parser, "--region", "R", "only this region")
    _add_repeatable(parser, "--pathology", "P", "only images with this finding")
    _add_repeatable(parser, "--not-pathology", "P", "no images with this finding")
    _add_repeatable(parser, "--all-pathology", "P", "only images with this finding and the others so named")
    _add_repeatable(parser, "--dataset", "D", "only this data set")
    _add_repeatable(parser, "--where", "FIELD=VALUE", "only images with this value of a field (view, sex, split, ...)")
    _add_repeatable(parser, "--where-not", "FIELD=VALUE", "no images with this value of a field")
    _add_repeatable(parser, "--has", "FIELD", "only images of which this field is known")
    _add_repeatable(parser, "--lacks", "FIELD", "only images of which this field is not known")
    for name in ("age", "year"):
        parser.add_argument(f"--{name}", type=_span, metavar="FROM-TO", help="both included; either may be left out")
    parser.add_argument("--allow-same-patient", action="store_true", help="also images of the query's own patient")
    parser.add_argument(
        "--anyway", action="store_true", help="hits also where nothing is similar enough to IMAGE (docs/searching.md)"
    )
    _add_ranking(parser)
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of hits (default: 10)")
    parser.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
    parser.add_argument("--json", action="store_true", help="one JSON object a hit")
    parser.set_defaults(run=_search)


def _add_repeatable(parser: argparse.ArgumentParser, name: str, value: str, words: str) -> None:
    parser.add_argument(name, action="append", default=[], metavar=value, help=f"{words}; may be repeated")


def _add_ranking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threshold", type=float, metavar="S", help="no hits with a lower score")
    parser.add_argument("--fusion", choices=("rank", "score"), default="rank", help="of several models (default: rank)")
    _add_repeatable(parser, "--weight", "MODEL=W", "weight of a model in the fusion by score (default: 1)")
    parser.add_argument("--diversity", type=float, default=0.0, metavar="D", help="0: the nearest; 1: all unlike")
    parser.add_argument("--group", choices=("patient", "study", "series"), help="only the best hit of each")
    parser.add_argument(
        "--rerank",
        choices=("k-reciprocal", "diffusion", "votes"),
        help="the first 100 hits, by what they say of each other",
    )
    parser.add_argument("--expand", type=int, default=0, metavar="N", help="move the query by its first N hits")
    parser.add_argument("--page", type=int, default=1, metavar="N", help="the N-th lot of hits (default: 1)")


def _span(text: str) -> Span:
    low, dash, high = text.partition("-")
    if not dash and not low:
        raise ValueError
    return Span(int(low) if low else None, int(high) if high else None if dash else int(low))


def _pairs(stated: Sequence[str], option: str) -> dict[str, tuple[str, ...]]:
    """`FIELD=VALUE` several times -> the values of each field."""
    pairs: dict[str, tuple[str, ...]] = {}
    for text in stated:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise RadSearchError(f"{option} wants {'MODEL=W' if option == '--weight' else 'FIELD=VALUE'}, not {text!r}")
        pairs[name] = (*pairs.get(name, ()), value)
    return pairs


def _weights(stated: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(values[-1]) for name, values in _pairs(stated, "--weight").items()}
    except ValueError:
        raise RadSearchError("--weight wants MODEL=W, with a number") from None


def _wanted(options: argparse.Namespace) -> "Wanted":
    from radsearch.search import Ranking, Wanted

    where = SearchFilter(
        modality=tuple(code.upper() for code in options.modality),
        region=tuple(options.region),
        pathology=tuple(options.pathology),
        pathology_none=tuple(options.not_pathology),
        pathology_all=tuple(options.all_pathology),
        dataset=tuple(options.dataset),
        any_of=_pairs(options.where, "--where"),
        none_of=_pairs(options.where_not, "--where-not"),
        age=options.age,
        year=options.year,
        present=tuple(options.has),
        absent=tuple(options.lacks),
    )
    ranking = Ranking(
        options.fusion,
        _weights(options.weight),
        options.threshold,
        options.diversity,
        options.group,
        options.page,
        options.rerank,
        options.expand,
    )
    return Wanted(options.k, where, tuple(options.model), options.allow_same_patient, ranking)


def _search(options: argparse.Namespace) -> int:
    from radsearch.index import open_index
    from radsearch.privacy import load_pseudonymizer
    from radsearch.search import Searcher

    settings = settings_of(options)
    wanted = _wanted(options)
    _check_query(options)
    strange = None
    with open_index(settings) as index:
        pseudonymizer = None
        if options.image:
            pseudonymizer = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
            index.admit((), pseudonymizer.check)
        searcher = Searcher(index, settings, pseudonymizer)
        if options.image:
            hits, strange = _by_file(searcher, options, wanted)
        elif options.series is not None:
            hits = searcher.by_series(options.series, wanted)
        elif options.text is not None:
            hits = searcher.by_text(options.text, wanted)
        elif options.finding is not None:
            hits = searcher.by_finding(options.finding, wanted)
        else:
            liked = [*([options.id] if options.id else []), *options.like]
            hits = searcher.like(liked, options.unlike, wanted)
    _note(settings, options, wanted, hits)
    for remark in searcher.calibrations.remarks:
        _say(remark)
    if strange is not None:
        _say(f"nothing similar enough in this archive ({strange}); --anyway shows the nearest all the same")
        return 0
    _print_hits(hits, as_json=options.json)
    return 0


def _say(words: str) -> None:
    print(words, file=sys.stderr)  # noqa: T201


def _note(settings: "Settings", options: argparse.Namespace, wanted: "Wanted", hits: Sequence[Hit]) -> None:
    """Into the audit, where the settings name one: by what kind of query, under which filter, what was found."""
    from radsearch.audit import audit_of
    from radsearch.search import told_of

    examples = {"liked": [*([options.id] if options.id else []), *options.like], "disliked": options.unlike}
    query = {
        "files": len(options.image or ()),
        "words": options.text is not None or options.finding is not None,
        "series": options.series is not None or options.as_series,
        **examples,
    }
    audit_of(settings).note(
        "search",
        query={name: value for name, value in query.items() if value},
        filters=told_of(wanted.where),
        hits=[hit.id for hit in hits],
    )


def _check_query(options: argparse.Namespace) -> None:
    """One kind of query at a time."""
    examples = options.id is not None or options.like or options.unlike
    words = [options.text is not None, options.finding is not None]
    if sum([bool(options.image), *words, options.series is not None, bool(examples)]) != 1:
        raise RadSearchError(
            "say what to search by: one of IMAGE, --text, --finding, --series, or --id / --like (with or without "
            "--unlike)"
        )
    if options.as_series and (not options.image or options.frame is not None):
        raise RadSearchError("--as-series goes with IMAGE, the slices of one series, and without --frame")
    if not 1 <= options.k <= _MOST_HITS:
        raise RadSearchError(f"-k is from 1 to {_MOST_HITS}; later hits are on later pages (--page)")


def _by_file(
    searcher: "Searcher", options: argparse.Namespace, wanted: "Wanted"
) -> "tuple[list[Hit], Nearness | None]":
    """The hits; or none, and how near the nearest image is, where that is not near enough."""
    from radsearch.errors import UnreadableImageError

    try:
        if options.as_series:
            return searcher.by_slices(options.image, wanted), None
        files = searcher.query_files(options.image, options.frame)
        hits = searcher.by_files(files, wanted)
        nearness = None if options.anyway else searcher.nearness(files, wanted)
    except UnreadableImageError as error:
        raise RadSearchError(f"the query cannot be read: {error.reason}") from error
    except OSError as error:
        raise RadSearchError(f"the query cannot be opened: {error.strerror}") from error
    return ([], nearness) if nearness is not None and nearness.strange else (hits, None)


def _print_hits(hits: Sequence[Hit], *, as_json: bool) -> None:
    if as_json:
        for hit in hits:
            print(json.dumps(hit_as_json(hit)))  # noqa: T201 -- data goes to stdout
        return
    calibrated = any(hit.probability is not None for hit in hits)
    names = ("modality", "region", "pathology", "dataset", "frame", "id")
    rows: list[tuple[str, ...]] = [("rank", "score", *(("probability",) if calibrated else ()), *names)]
    for hit in hits:
        labels = hit.facts.labels
        findings = ", ".join(labels.pathology)
        cells = (labels.modality, labels.region, findings, hit.facts.dataset, str(hit.frame or ""), hit.id)
        probable = "-" if hit.probability is None else f"{hit.probability:.2f}"
        figures = (str(hit.rank), f"{hit.score:.4f}", *((probable,) if calibrated else ()))
        rows.append((*figures, *(cell or "-" for cell in cells)))
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
        "probability": None if hit.probability is None else round(hit.probability, 3),
    }
