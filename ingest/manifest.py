"""The manifest as an ingest takes it: pseudonyms stand in it for the identifiers, in all that comes after."""

from collections.abc import Iterator
from pathlib import Path

from radsearch.privacy import Pseudonymizer
from radsearch.reading import manifest as manifests
from radsearch.reading.manifest import ManifestRow


def read_rows(
    manifest: Path, pseudonymizer: Pseudonymizer, *, dataset: str | None, split: str | None
) -> Iterator[ManifestRow]:
    """The rows of a manifest, one at a time, as `radsearch.reading.manifest.read_rows` reads and refuses them.

    Args:
        manifest: the CSV file.
        pseudonymizer: makes the pseudonyms of patient, study and series.
        dataset: taken where a row says none.
        split: likewise.

    Raises:
        ManifestError: the file is missing, is no UTF-8 CSV, or lacks a column.
    """
    return manifests.read_rows(manifest, pseudonymizer.pseudonym, dataset=dataset, split=split)
