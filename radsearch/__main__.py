"""`python -m radsearch` and the command `radsearch`: its own commands, and what the rooms register."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from radsearch import __version__
from radsearch.commands import evidence, index, models, render, reveal, search
from radsearch.errors import RadSearchError, exit_code

_ROOMS = "radsearch.commands"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 2 could not do it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    rooms = {room.name: room for room in entry_points(group=_ROOMS)}
    if given and given[0] in rooms:
        return exit_code(lambda: _room_main(given[0], rooms[given[0]].load)(given[1:]))
    options = _parser().parse_args(given)
    return exit_code(lambda: options.run(options))


def _room_main(name: str, load: Callable[[], Callable[[list[str]], int]]) -> Callable[[list[str]], int]:
    try:
        return load()
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("radsearch"):
            raise
        raise RadSearchError(f"`radsearch {name}` runs from the checkout ({error.name} is not installed)") from error


def _parser() -> argparse.ArgumentParser:
    rooms = ", ".join(sorted(room.name for room in entry_points(group=_ROOMS)))
    parser = argparse.ArgumentParser(
        prog="radsearch",
        description="Find the radiology images that look like the one in front of you.",
        epilog=f"from the checkout also: {rooms}" if rooms else None,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    search.add_to(commands.add_parser("search", help="search by an image, an indexed one, text, or examples"))
    evidence.add_to(commands.add_parser("evidence", help="where two images match, as a picture of both"))
    render.add_to(commands.add_parser("render", help="see the picture that models see of a file, and why"))
    models.add_to(commands.add_parser("models", help="the models that can embed"))
    index.add_to(commands.add_parser("index", help="what an index holds"))
    reveal.add_to(commands.add_parser("reveal", help="where the file of an indexed image is, by the private catalogue"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
