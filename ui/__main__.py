"""`python -m ui`: serve the page, without a login on this machine only, and without usage reports."""

import argparse
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from radsearch.errors import exit_code
from radsearch.settings import silence_telemetry

_ROOT = Path(__file__).resolve().parent.parent
_DEMO = _ROOT / ".demo"
_PAUSE_SECONDS = 0.02
_DEMO_PLACES = {
    "CATALOGUE": "catalogue.sqlite",
    "REPORTS": "reports",
    "RUNS": "runs",
    "ARCHIVE": "lung",
    "MANIFEST": "lung/manifest.csv",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the page until Ctrl-C. Without RADSEARCH_INDEX it shows the demo's index, where there is one."""
    parser = argparse.ArgumentParser(prog="python -m ui", description=__doc__)
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--address", default="localhost", help="to listen at; another one than this needs a login")
    parser.add_argument("--published", metavar="ADDRESS", help="in a container: where its engine publishes the page")
    options = parser.parse_args(arguments)
    silence_telemetry()
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        signal.signal(signal.SIGHUP, hang_up)
    if "RADSEARCH_INDEX" not in os.environ and (_DEMO / "index").is_dir():
        os.environ["RADSEARCH_INDEX"] = str(_DEMO / "index")
        os.environ["RADSEARCH_SECRET_FILE"] = str(_DEMO / "secret")
        for name, place in _DEMO_PLACES.items():
            os.environ.setdefault(f"RADSEARCH_{name}", str(_DEMO / place))
        os.environ.setdefault("RADSEARCH_BURNED_IN", "allow")  # as the demo has it: its files are published
    command = ["run", str(_ROOT / "ui" / "app.py"), "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    command += [
        "--server.address",
        options.address,
        "--server.port",
        str(options.port),
        "--server.maxUploadSize",
        "200",
    ]
    os.chdir(_ROOT)
    if exit_code(lambda: _check(options.address, options.published)):
        raise SystemExit(2)
    from streamlit.web import cli

    threading.Thread(target=_warm_up, daemon=True).start()
    cli.main(command, prog_name="streamlit")
    raise SystemExit


def _check(address: str, published: str | None) -> int:
    from ui.opening import keep_login, require_safe

    require_safe(address, published=published)
    keep_login()
    return 0


def hang_up(*_signal: object) -> None:
    """The terminal is gone: end as by SIGTERM, for which Streamlit has a handler, so that the jobs are ended, too."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # once is enough
    signal.raise_signal(signal.SIGTERM)


def _warm_up() -> None:
    """When the server is there, do what its first visitor would wait for."""
    from streamlit import runtime

    while not runtime.exists():
        time.sleep(_PAUSE_SECONDS)
    from ui.shared import warm_up

    warm_up()


if __name__ == "__main__":
    main()
