"""All schedules of a settings file, started and watched by one process against a Prefect server."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from inspect import signature
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ParameterTypeError, SignatureMismatchError
from prefect.schedules import Schedule
from prefect.server.schemas.schedules import CronSchedule
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType

from flows.ingest_archive import ingest_partition
from flows.settings import FLOWS, Job
from radsearch.errors import SettingsError
from radsearch.settings import without_credentials

_ZOMBIES = "radsearch: a run without a sign of life has crashed"
_SIGNS = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")
_UNAUTHORIZED = 401
_SILENT_SECONDS = 900  # longer than a server is away, as a run cannot be heard then


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
        given = flow.validate_parameters(dict(job.parameters))
    except (ParameterTypeError, SignatureMismatchError) as error:
        words = " ".join(str(error).split())
        raise SettingsError(f"{where} has a value of another kind: {words}") from error
    if any("\0" in value for value in job.parameters.values() if isinstance(value, str)):
        raise SettingsError(f"{where} has a text with a NUL in it")
    if without_credentials(str(given.get("index"))) != str(given.get("index")):
        raise SettingsError(f"{where}: an index's address holds no password: set RADSEARCH_QDRANT_API_KEY")
    if given.get("partitions", 1) < 1:
        raise SettingsError(f"{where}: partitions is 1 or more")
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
        due = asyncio.run(CronSchedule(cron=job.cron, timezone=job.timezone).get_dates(1))
    except ValueError:  # pydantic's and croniter's
        due = []
    if not due:
        raise SettingsError(f"{where}: {job.cron!r} is no cron string, as '0 2 * * *' is, or is never due")
    return Schedule(cron=job.cron, timezone=job.timezone)


def deployments_of(jobs: Sequence[Job], origin: str = "") -> list[RunnerDeployment]:
    """What is served: a deployment a job, and one for the parts of an ingest in parts.

    Of each job one run is at work at a time; what comes due meanwhile is cancelled, as the next one does its work.

    Args:
        jobs: as they were read.
        origin: the file that they are from, which all its deployments are tagged with.

    Raises:
        SettingsError: as `flow_of`.
    """
    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    tags, module = ["radsearch", origin] if origin else ["radsearch"], EntrypointType.MODULE_PATH
    deployments = []
    for job in jobs:
        flow, parameters = flow_of(job), dict(job.parameters)
        one: Any = flow.to_deployment(
            job.name,
            schedule=schedule_of(job),
            parameters=parameters,
            concurrency_limit=alone,
            tags=tags,
            entrypoint_type=module,
        )
        deployments.append(one)
        if flow.validate_parameters(parameters).get("partitions", 1) > 1:
            part: Any = ingest_partition.to_deployment(job.name, tags=tags, entrypoint_type=module)
            deployments.append(part)
    return deployments


def require_server() -> None:
    """Whether the Prefect server that is named, where one is, can be used.

    Raises:
        SettingsError: it cannot be reached, or wants another authorization.
    """
    address = get_current_settings().api.url
    if not address:
        return
    if not address.startswith(("http://", "https://")):
        raise SettingsError(f"{address} is no address of a Prefect server, as http://127.0.0.1:4200/api is")
    try:
        with get_client(sync_client=True) as client:
            if client.api_healthcheck() is not None:
                raise SettingsError(f"the Prefect server at {address} cannot be reached")
            client.read_automations()
    except httpx.HTTPStatusError as error:
        words = "set PREFECT_API_AUTH_STRING" if error.response.status_code == _UNAUTHORIZED else str(error.response)
        raise SettingsError(f"the Prefect server at {address} refuses: {words}") from error
    except (httpx.TransportError, RuntimeError) as error:
        raise SettingsError(f"the Prefect server at {address} cannot be reached ({type(error).__name__})") from error


def serve_all(jobs: Sequence[Job], origin: str) -> None:
    """Start the schedules and run what comes due, until the process is ended.

    Jobs that the file named when it was served before, and names no more, are paused.

    Args:
        jobs: as they were read.
        origin: the file that they are from.

    Raises:
        SettingsError: a job is wrong, or no Prefect server can be used.
    """
    deployments = deployments_of(jobs, origin)
    if not get_current_settings().api.url:
        raise SettingsError(
            "schedules need a Prefect server: start one (prefect server start), and name it "
            "(server = 'http://127.0.0.1:4200/api' in the schedules, or PREFECT_API_URL)"
        )
    require_server()
    with get_client(sync_client=True) as client:
        if not any(one.name == _ZOMBIES for one in client.read_automations()):
            client.create_automation(_crash_silent_runs())
        served = {(one.flow_name, one.name) for one in deployments}
        known = client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[origin])))
        flows = {flow.id: flow.name for flow in client.read_flows()}
        for one in known:
            if (flows.get(one.flow_id), one.name) not in served:
                client.pause_deployment(one.id)
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
