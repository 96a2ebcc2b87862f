"""When: thin Prefect flows over the rooms `ingest` and `evaluation`."""

import logging

from radsearch.settings import silence_telemetry

# The one import with a side effect: Prefect reads its settings when it is first imported, and must not call home. Where
# all loggers are set to DEBUG, websockets writes every header that it sends: also the password of Prefect's server.
silence_telemetry()
logging.getLogger("websockets").setLevel(logging.INFO)
