"""Where a command writes a picture: over an older one, but over no file of any other kind."""

from pathlib import Path

from PIL import Image

from radsearch.errors import RadSearchError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def refuse_to_overwrite(out: Path | None, *sources: Path) -> None:
    """A mistyped command is to cost no file but an older picture.

    Raises:
        RadSearchError: it is one of the files that are read, or none of ours, or cannot be looked at.
    """
    if out is None:
        return
    try:
        if out.exists() and (_is_one_of(out, sources) or (out.is_file() and not _is_png(out))):
            raise RadSearchError(f"{out} exists and is no picture of ours; name another file")
    except OSError as error:
        raise RadSearchError(f"{out} cannot be written: {error.strerror}") from error


def write_png(image: Image.Image, out: Path) -> None:
    """Raises RadSearchError where it cannot be written."""
    try:
        image.save(out, format="PNG")
    except OSError as error:
        raise RadSearchError(f"{out} cannot be written: {error.strerror}") from error


def _is_one_of(out: Path, sources: tuple[Path, ...]) -> bool:
    return any(source.exists() and out.samefile(source) for source in sources)


def _is_png(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(PNG_SIGNATURE)) in (PNG_SIGNATURE, b"")  # an empty file is nobody's
