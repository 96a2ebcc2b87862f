"""One ingest from end to end: what `python -m ingest` and the Prefect flow share."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.embedding import Embedding
from ingest.pipeline import Ingestion
from ingest.report import Summary, summarise, write_report
from ingest.sources import Archive
from radsearch.deriving import can_derive, derive
from radsearch.errors import IndexMissingError, SettingsError
from radsearch.index import Index, open_index
from radsearch.models import ModelSpec, find_model
from radsearch.models.identity import fingerprint_for
from radsearch.models.weights import Weights, find_weights
from radsearch.privacy import Pseudonymizer, load_pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Fingerprint


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has begun: the pipeline, its index and its clock."""

    archive: Archive
    ingestion: Ingestion
    index: Index
    pseudonymizer: Pseudonymizer
    fingerprints: tuple[Fingerprint, ...]
    begun: float

    def finish(self, report: Path | None, *, in_time: bool = True) -> Summary:
        """Make the index fast and safe, add the accounts up, write the report.

        Args:
            report: where it goes.
            in_time: False where a time limit ended the run before its last file.

        Raises:
            SettingsError: there was no file at all, in all parts; the report cannot be written.
            DiskFullError: there is no room to build the graph; the report is written.
            RadSearchError: the catalogue could not be written; all else is done, and the report is written.
        """
        try:
            self.index.finish()
        finally:
            summary = summarise(self.ingestion.accounts, self.fingerprints, time.monotonic() - self.begun)
            if report is not None:
                write_report(report, summary, self.ingestion.accounts)
        if self.ingestion.catalogue_fault is not None:
            raise self.ingestion.catalogue_fault
        if summary.found == 0 and self.archive.part is None and in_time:
            raise SettingsError(f"no files in {self.archive.path}")
        return summary


@contextmanager
def begin(archive: Archive, models: Sequence[str], settings: Settings) -> Iterator[Run]:
    """Open index and pipeline for one run, and close them after it.

    Raises:
        RadSearchError: an unknown model, missing weights, a busy or foreign index.
    """
    begun = time.monotonic()
    specs = [find_model(name, settings.settings_folder) for name in dict.fromkeys(models or (settings.model,))]
    weights = [find_weights(spec, settings.models_folder) for spec in specs]
    pseudonymizer = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
    _first_file(replace(archive, part=None), pseudonymizer)
    with _opened(settings, specs, weights) as (index, embedding, fingerprints):
        index.admit(fingerprints, pseudonymizer.check)
        _derive(index, specs, fingerprints)
        with Ingestion(index, specs, settings, pseudonymizer, embedding=embedding) as ingestion:
            ingestion.known_only = archive.known_only
            yield Run(archive, ingestion, index, pseudonymizer, fingerprints, begun)


@contextmanager
def _opened(
    settings: Settings, specs: Sequence[ModelSpec], weights: Sequence[Weights]
) -> Iterator[tuple[Index, Embedding, tuple[Fingerprint, ...]]]:
    """The index and the models of a run.

    A model that the index does not know yet is loaded and tried first: one that does not run as its row says is not
    made known to it.
    """
    with ExitStack() as stack:
        index: Index | None = None
        held: Mapping[str, Fingerprint] = {}
        with contextlib.suppress(IndexMissingError):
            index = stack.enter_context(open_index(settings, sole_writer=True))
            held = index.card.models
        fingerprints = _fingerprints(settings, specs, weights, held)
        embedding = Embedding(specs, settings, {one.model: one for one in fingerprints})
        stack.callback(embedding.close)
        if any(spec.name not in held for spec in specs):
            embedding.embedders()
        if index is None:
            index = stack.enter_context(open_index(settings, create_for=fingerprints, sole_writer=True))
        yield index, embedding, fingerprints


def _derive(index: Index, specs: Sequence[ModelSpec], fingerprints: Sequence[Fingerprint]) -> None:
    """What can be made of stored vectors needs no picture: those images count as done when their files are met."""
    for spec, fingerprint in zip(specs, fingerprints, strict=True):
        if can_derive(index, spec):
            derive(index, spec, fingerprint)


def _fingerprints(
    settings: Settings, specs: Sequence[ModelSpec], weights: Sequence[Weights], held: Mapping[str, Fingerprint]
) -> tuple[Fingerprint, ...]:
    return tuple(
        fingerprint_for(spec, place, settings, held.get(spec.name)) for spec, place in zip(specs, weights, strict=True)
    )


def _first_file(archive: Archive, pseudonymizer: Pseudonymizer) -> None:
    """Meet a missing path or a manifest without its columns before an index is made."""
    next(archive.files(pseudonymizer), None)
