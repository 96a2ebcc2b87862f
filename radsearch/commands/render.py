"""`radsearch render`: the picture that models and people see of a file, and how it came about."""

import argparse
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from radsearch.errors import RadSearchError, UnreadableImageError, no_such_frame
from radsearch.settings import Settings, load_settings

if TYPE_CHECKING:
    from radsearch.rendering import Rendered


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("image", type=Path, metavar="FILE", help="a DICOM, NIfTI, PNG or JPEG file")
    parser.add_argument(
        "--frame",
        type=int,
        metavar="N",
        help="frame of FILE, from 1 (default: the middle one of those that an ingest takes)",
    )
    parser.add_argument("--out", type=Path, metavar="PNG", help="where to write the picture")
    parser.add_argument("--explain", action="store_true", help="print the steps that led to it")
    parser.set_defaults(run=_render)


def _render(options: argparse.Namespace) -> int:
    from PIL import Image

    from radsearch.commands.pictures import refuse_to_overwrite, write_png

    if options.out is None and not options.explain:
        raise RadSearchError("say where to: --out PNG (or --explain, to see the steps only)")
    refuse_to_overwrite(options.out, options.image)
    rendered = _shown(options.image, options.frame, load_settings())
    if options.out is not None:
        write_png(Image.fromarray(rendered.picture), options.out)
    if options.explain:
        rows, columns = rendered.picture.shape[:2]
        for step in (*rendered.steps, f"picture: {columns} x {rows}, 8 bits"):
            print(step)  # noqa: T201 -- data goes to stdout
    return 0


def _shown(path: Path, frame: int | None, settings: Settings) -> "Rendered":
    """Apart, as every file that somebody else has written."""
    from radsearch.privacy import Pseudonymizer
    from radsearch.reading import choice_of
    from radsearch.reading.isolation import limits_of
    from radsearch.rendering import text_policy_of
    from radsearch.rendering.apart import reader_apart

    pseudonymizer = Pseudonymizer(secrets.token_bytes(32))
    reader = reader_apart(pseudonymizer, limits_of(settings), text_policy_of(settings))
    try:
        identity = reader.identify(path, name="", choice=choice_of(settings))
        number = identity.frame_to_show if frame is None else frame
        if not 1 <= number <= identity.frames:
            raise RadSearchError(no_such_frame(identity.frames, number))
        return reader.show(path, number).rendered
    except UnreadableImageError as error:
        raise RadSearchError(f"the file cannot be read: {error.reason}") from error
    except OSError as error:
        raise RadSearchError(f"the file cannot be opened: {error.strerror}") from error
