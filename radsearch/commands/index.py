"""`radsearch index`: what an index holds, whether it finds it, and what can be done with it as a whole."""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from radsearch.cells import printable
from radsearch.commands import settings_of, table
from radsearch.study import SearchFilter


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="how many images, by which models")
    facets = commands.add_parser("facets", help="how many images by modality, region, pathology, ...")
    facets.add_argument("field", nargs="*", metavar="FIELD", help="only these fields")
    facets.add_argument("--json", action="store_true")
    optimize = commands.add_parser("optimize", help="build what makes search fast, as an ingest does at its end")
    verify = commands.add_parser("verify", help="search by a sample, and compare with every point")
    verify.add_argument("--model", metavar="NAME", help="only its vectors")
    verify.add_argument("--samples", type=int, default=200, metavar="N", help="images to search by (default: 200)")
    verify.add_argument("--field", default="modality", help="whose values the filters are (default: modality)")
    verify.add_argument("--json", action="store_true")
    sweep = commands.add_parser("sweep", help="remove thumbnails that no image has any more")
    layout = commands.add_parser("map", help="lay a sample out in the plane, for the page")
    layout.add_argument("--model", metavar="NAME", help="only its vectors")
    layout.add_argument("--sample", type=int, default=5000, metavar="N", help="images, 20000 at most (default: 5000)")
    layout.add_argument("--method", default="pca", help="pca (default), or umap where umap-learn is installed")
    drop = commands.add_parser("drop-model", help="remove a model's vectors")
    drop.add_argument("model", metavar="NAME")
    derived = commands.add_parser("derive", help="vectors of a model that was learned, made of those that are stored")
    derived.add_argument("model", metavar="NAME")
    snapshot = commands.add_parser("snapshot", help="an index in a folder, as one file")
    restore = commands.add_parser("restore", help="such a file, to a new folder")
    for command in (snapshot, restore):
        command.add_argument("file", type=Path, metavar="FILE")
    for command, run in (
        (info, _info),
        (facets, _facets),
        (optimize, _optimize),
        (verify, _verify),
        (sweep, _sweep),
        (layout, _map),
        (drop, _drop),
        (derived, _derive),
        (snapshot, _snapshot),
        (restore, _restore),
    ):
        command.add_argument("--index", metavar="DIR|URL", help="folder or Qdrant server (default: RADSEARCH_INDEX)")
        command.set_defaults(run=run)
    copy = commands.add_parser("copy", help="all of an index into another one, which goes on where it was stopped")
    copy.add_argument("source", metavar="FROM", help="folder or Qdrant server")
    copy.add_argument("target", metavar="TO", help="likewise; made where it is not there")
    copy.set_defaults(run=_copy, index=None)


def _info(options: argparse.Namespace) -> int:
    from radsearch.index import open_index

    with open_index(settings_of(options)) as index:
        print(f"index: {index.location}")  # noqa: T201
        print(f"images: {index.count()}")  # noqa: T201
        print(f"vectors: {index.card.storage.datatype}, codes: {index.card.storage.quantization}")  # noqa: T201
        by_model = index.facets("models", SearchFilter())
        for name, model in index.card.models.items():
            print(f"model: {name}, {by_model.get(name, 0)} images")  # noqa: T201
            print(printable(f"  weights {model.weights}, {model.dimension} dimensions, {model.precision}"))  # noqa: T201
            print(printable(f"  {model.preprocessing}; rendering {model.rendering}"))  # noqa: T201
    return 0


def _derive(options: argparse.Namespace) -> int:
    from radsearch.deriving import derive_in

    print(derive_in(settings_of(options), options.model))  # noqa: T201
    return 0


def _facets(options: argparse.Namespace) -> int:
    from radsearch.errors import UnknownNameError
    from radsearch.index import FACET_FIELDS, open_index

    unknown = [name for name in options.field if name not in FACET_FIELDS]
    if unknown:
        raise UnknownNameError("field", unknown[0], FACET_FIELDS)
    with open_index(settings_of(options)) as index:
        counts = {name: index.facets(name, SearchFilter()) for name in options.field or FACET_FIELDS}
    if options.json:
        print(json.dumps({name: {str(value): n for value, n in found.items()} for name, found in counts.items()}))  # noqa: T201
        return 0
    for name, found in counts.items():
        for value, number in found.items():
            print(printable(f"{name}\t{value}\t{number}"))  # noqa: T201
    return 0


def _optimize(options: argparse.Namespace) -> int:
    from radsearch.index import open_index

    with open_index(settings_of(options), sole_writer=True) as index:
        index.finish()
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Exit 1 where a search misses too much."""
    from radsearch.errors import SettingsError
    from radsearch.index import open_index
    from radsearch.index.verify import verify
    from radsearch.thumbnails import thumbnails_of

    if options.samples < 1:
        raise SettingsError("--samples is 1 or more")
    settings = settings_of(options)
    thumbnails = thumbnails_of(settings)
    with open_index(settings) as index:
        models = [options.model] if options.model else list(index.card.models)
        verdicts = [
            verify(index, model, options.samples, field=options.field, thumbnails=thumbnails) for model in models
        ]
    if options.json:
        print(json.dumps([{**asdict(verdict), "sound": verdict.sound} for verdict in verdicts]))  # noqa: T201
    for verdict in [] if options.json else verdicts:
        found = f"{verdict.found_themselves} of {verdict.sampled}"
        print(f"{verdict.model}: {found} sampled images find themselves")  # noqa: T201
        rows = [("filter", "images", "queries", "recall@10")]
        rows += [(one.where, str(one.kept), str(one.queries), f"{one.recall:.4f}") for one in verdict.recalls]
        print(table(rows))  # noqa: T201
        if verdict.misshapen:
            print(f"{verdict.misshapen} sampled vectors are not of unit length: the index is damaged")  # noqa: T201
        if verdict.lost_thumbnails:
            print(f"{verdict.lost_thumbnails} sampled images have lost their thumbnails")  # noqa: T201
    return 0 if all(verdict.sound for verdict in verdicts) else 1


def _sweep(options: argparse.Namespace) -> int:
    from radsearch.errors import SettingsError
    from radsearch.index import open_index
    from radsearch.thumbnails import thumbnails_of

    settings = settings_of(options)
    thumbnails = thumbnails_of(settings)
    if thumbnails is None:
        raise SettingsError("RADSEARCH_THUMBNAILS says where the thumbnails of an index on a server are")
    with open_index(settings, sole_writer=True) as index:
        used = {str(point.payload.get("thumbnail")) for page in index.pages() for point in page}
        print(f"{thumbnails.sweep(used)} thumbnails removed")  # noqa: T201
    return 0


def _map(options: argparse.Namespace) -> int:
    """Exit 1 where a model has too few vectors; the others have their maps then."""
    from radsearch.errors import SettingsError, TooFewImagesError
    from radsearch.index import open_index
    from radsearch.maps import make_map, maps_of

    settings = settings_of(options)
    maps = maps_of(settings)
    if maps is None:
        raise SettingsError("RADSEARCH_THUMBNAILS names the folder that the maps of an index on a server are in, too")
    with open_index(settings) as index:
        models = [options.model] if options.model else list(index.card.models)
    bare = 0
    for model in models:
        try:
            made = make_map(lambda: open_index(settings), model, count=options.sample, method=options.method)
        except TooFewImagesError as error:
            if options.model:
                raise
            print(f"no map: {error}", file=sys.stderr)  # noqa: T201
            bare += 1
            continue
        maps.write(made)
        print(f"{model}: {len(made.ids)} images in {maps.file(model, made.method)}")  # noqa: T201
    return 1 if bare else 0


def _drop(options: argparse.Namespace) -> int:
    from radsearch.index import open_index

    with open_index(settings_of(options), sole_writer=True) as index:
        index.drop_model(options.model)
        index.finish()
    return 0


def _snapshot(options: argparse.Namespace) -> int:
    from radsearch.index.snapshots import snapshot

    print(f"{snapshot(settings_of(options), options.file)} images in {options.file}")  # noqa: T201
    return 0


def _restore(options: argparse.Namespace) -> int:
    from radsearch.index.snapshots import restore

    settings = settings_of(options)
    print(f"{restore(options.file, settings)} images in {settings.index}")  # noqa: T201
    return 0


def _copy(options: argparse.Namespace) -> int:
    from radsearch.errors import SettingsError
    from radsearch.index import open_index
    from radsearch.index.transfer import copy, seed
    from radsearch.thumbnails import thumbnails_of

    settings = settings_of(options)
    if Path(options.source).resolve() == Path(options.target).resolve():
        raise SettingsError("FROM and TO are the same index")
    here, there = replace(settings, index=options.source), replace(settings, index=options.target)
    of_source, of_target = thumbnails_of(here), thumbnails_of(there)
    folders = (of_source, of_target) if of_source and of_target else None
    if folders is None and of_source is not of_target:
        print("thumbnails are not copied: RADSEARCH_THUMBNAILS names no folder for those of a server", file=sys.stderr)  # noqa: T201

    def progress(done: int) -> None:
        print(f"\r{done} images", end="", file=sys.stderr, flush=True)  # noqa: T201

    with open_index(here, sole_writer=True) as source:  # nobody is to change it meanwhile
        not_whole = seed(source, here, there)
        if not_whole:
            print(f"copied point by point, as {not_whole}", file=sys.stderr)  # noqa: T201
        with open_index(there, create_for=tuple(source.card.models.values()), sole_writer=True) as target:
            copied = copy(source, target, progress, thumbnails=folders)
    sys.stderr.write("\n")
    print(f"{copied.written} images copied, {copied.there} were there")  # noqa: T201
    return 0
