"""When: thin Prefect flows over the rooms `ingest` and `evaluation`."""

from radsearch.settings import silence_telemetry

# The one import with a side effect: Prefect reads its settings when it is first imported, and must not call home.
silence_telemetry()
