"""All schedules of a settings file, started and watched by one process against a Prefect server."""

from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from inspect import signature
from typing import Any
from zoneinfo import ZoneInfo

from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ParameterTypeError, SignatureMismatchError
from prefect.schedules import Schedule
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.ingest_archive import ingest_partition
from flows.settings import FLOWS, Job
from radsearch.errors import SettingsError

_ZOMBIES = "radsearch: a run without a sign of life has crashed"
_SIGNS = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")
_SILENT_SECONDS = 120  # of a run that gives a sign each half minute


def flow_of(job: Job) -> Flow[..., Any]:
    """A job's flow, which takes its parameters.

    Raises:
        SettingsError: it does not, or its cron or timezone is none.
    """
    module, name = FLOWS[job.kind]
    flow: Flow[..., Any] = getattr(import_module(module), name)
    known = signature(flow.fn).parameters
    where = f"[{job.kind}.{job.name}]"
    if unknown := sorted(set(job.parameters) - set(known)):
        raise SettingsError(f"{where}: there is no {unknown[0]}; there are cron, timezone, {', '.join(known)}")
    needed = [one.name for one in known.values() if one.default is one.empty]
    if missing := [one for one in needed if one not in job.parameters]:
        raise SettingsError(f"{where} lacks {', '.join(missing)}")
    try:
        flow.validate_parameters(dict(job.parameters))
    except (ParameterTypeError, SignatureMismatchError) as error:
        words = " ".join(str(error).split())
        raise SettingsError(f"{where} has a value of another kind: {words}") from error
    schedule_of(job)
    return flow


def schedule_of(job: Job) -> Schedule | None:
    """When a job is due. Raises SettingsError where cron or timezone is none."""
    if job.cron is None:
        return None
    where = f"[{job.kind}.{job.name}]"
    try:
        ZoneInfo(job.timezone)
    except (ValueError, OSError, KeyError) as error:  # as zoneinfo raises them
        raise SettingsError(f"{where}: there is no timezone {job.timezone!r}") from error
    try:
        CronSchedule(cron=job.cron, timezone=job.timezone)
    except ValidationError as error:
        raise SettingsError(f"{where}: {job.cron!r} is no cron string, as '0 2 * * *' is") from error
    return Schedule(cron=job.cron, timezone=job.timezone)


def deployments_of(jobs: Sequence[Job]) -> list[RunnerDeployment]:
    """What is served: a deployment a job, and one for the parts of an ingest in parts.

    Of each job one run is at work at a time; what comes due meanwhile is cancelled, as the next one does its work.

    Raises:
        SettingsError: as `flow_of`.
    """
    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    deployments = []
    for job in jobs:
        one: Any = flow_of(job).to_deployment(
            job.name,
            schedule=schedule_of(job),
            parameters=dict(job.parameters),
            concurrency_limit=alone,
            tags=["radsearch"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        deployments.append(one)
        if job.parameters.get("partitions", 1) > 1:
            part: Any = ingest_partition.to_deployment(
                job.name, tags=["radsearch"], entrypoint_type=EntrypointType.MODULE_PATH
            )
            deployments.append(part)
    return deployments


def serve_all(jobs: Sequence[Job]) -> None:
    """Start the schedules and run what comes due, until the process is ended.

    Raises:
        SettingsError: a job is wrong, or no Prefect server can be reached.
    """
    deployments = deployments_of(jobs)
    address = get_current_settings().api.url
    if not address:
        raise SettingsError(
            "schedules need a Prefect server: start one (prefect server start), and name it "
            "(server = 'http://127.0.0.1:4200/api' in the schedules, or PREFECT_API_URL)"
        )
    with get_client(sync_client=True) as client:
        if client.api_healthcheck() is not None:
            raise SettingsError(f"the Prefect server at {address} cannot be reached")
        if not any(one.name == _ZOMBIES for one in client.read_automations()):
            client.create_automation(_crash_silent_runs())
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False)


def _crash_silent_runs() -> AutomationCore:
    """A run whose process or machine is gone says nothing any more: it has crashed, and may be run again."""
    return AutomationCore(
        name=_ZOMBIES,
        description="runs of radsearch give a sign of life each half minute",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={f"prefect.flow-run.{sign}" for sign in _SIGNS},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_SILENT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message="no sign of life: its process or machine is gone",
                force=False,
            )
        ],
    )
