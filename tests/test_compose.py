"""docker-compose.yml and its companions, checked without Docker: what they name is there, what they promise holds."""

import asyncio
import copy
import json
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import sysconfig
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata, resources, util
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from packaging.version import Version

from radsearch.index.connection import connect, connect_for_files
from radsearch.settings import QUIET, VARIABLES, load_settings

Compose = dict[str, Any]

ROOT = Path(__file__).parent.parent
REFERENCE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?+])([^}]*))?\}")  # also :-default, :?why, :+instead
SECRETS = {
    "POSTGRES_PASSWORD",
    "PREFECT_API_AUTH_STRING",
    "RADSEARCH_QDRANT_API_KEY",
    "QDRANT_READ_KEY",
    "RADSEARCH_SECRET",
}
KEY = "0123456789abcdef" * 4  # as openssl rand -hex 32 makes one
# https://www.postgresql.org/docs/18/app-pg-isready.html
PG_ISREADY_OPTIONS = {"--dbname", "--host", "--port", "--quiet", "--timeout", "--username"}


def compose_file() -> Compose:
    compose: Compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return compose


def services(compose: Compose) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from compose["services"].items()


def ours(service: Mapping[str, Any]) -> bool:
    return str(service["image"]).startswith("radsearch:")


def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled_in() -> dict[str, str]:
    return {**example(), **dict.fromkeys(SECRETS, KEY), "PREFECT_API_AUTH_STRING": f"admin:{KEY}"}


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Put values for names, as Compose does (specification, chapter 12)."""

    def value(found: re.Match[str]) -> str:
        name, operator, operand = found.groups()
        stated = variables.get(name, "")
        if operator == "+":
            return operand if stated else ""
        return stated or (operand if operator == "-" else "")

    return REFERENCE.sub(value, text).replace("$$", "$")


def environment_of(service: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    return {name: interpolate(value, variables) for name, value in service.get("environment", {}).items()}


# --- the checks: each says what is wrong


def form(compose: Compose) -> list[str]:
    """Against the compose specification's schema, as the package check-jsonschema carries it."""
    schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(compose)]


def references(compose: Compose) -> list[str]:
    """Every variable is in .env.example, and the other way round; a secret stands nowhere, and has no default."""
    found = [match.groups() for match in REFERENCE.finditer(json.dumps(compose))]
    named, stated = {name for name, _, _ in found}, {name for name in example() if not name.startswith("COMPOSE_")}
    faults = [f"{name} is not in .env.example" for name in sorted(named - stated)]
    faults += [f"nothing reads {name} of .env.example" for name in sorted(stated - named)]
    faults += [f"{name} has a default" for name, operator, _ in found if name in SECRETS and operator != "?"]
    faults += [f"{name} stands in .env.example" for name in sorted(SECRETS) if example()[name]]
    for name, service in services(compose):
        for key, value in service.get("environment", {}).items():
            if (
                re.search(r"(KEY|SECRET|PASSWORD|AUTH_STRING)$", key)
                and key != "QDRANT__TLS__KEY"
                and "${" not in value
            ):
                faults.append(f"{name}: {key} is written out")
    return faults


def known_settings(compose: Compose) -> list[str]:
    names = {name for _, service in services(compose) for name in service.get("environment", {})} | set(example())
    return [
        f"there is no setting {name}"
        for name in sorted(names)
        if name.startswith("RADSEARCH_") and name not in VARIABLES
    ]


def addresses(compose: Compose) -> list[str]:
    """Nothing is reached from elsewhere, unless that is set."""
    ports = [(name, str(port)) for name, service in services(compose) for port in service.get("ports", [])]
    return [
        f"{name} listens on {port}"
        for name, port in ports
        if not interpolate(port, {}).startswith("127.0.0.1:")
        or not interpolate(port, filled_in()).startswith("127.0.0.1:")
    ] + [f"{name} is on the machine's own network" for name, service in services(compose) if "network_mode" in service]


def privileges(compose: Compose) -> list[str]:
    faults = []
    for name, service in services(compose):
        if "no-new-privileges:true" not in service.get("security_opt", []):
            faults.append(f"{name} may get new privileges")
        if "restart" not in service:
            faults.append(f"{name} is not started again")
        archives = [mount for mount in service.get("volumes", []) if "archive" in str(mount)]
        faults += [f"{name} may write into the archive" for mount in archives if not mount.get("read_only")]
    return faults


def images(compose: Compose) -> list[str]:
    """Exact versions, not older than what the tests ran with."""
    clients = {"qdrant/qdrant": "qdrant-client", "prefecthq/prefect": "prefect"}
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    faults = []
    for name, service in services(compose):
        image, _, tag = str(service["image"]).partition(":")
        version = re.match(r"v?(\d+\.\d+(\.\d+)?)(-|$)", tag)
        if not ours(service) and not version:
            faults.append(f"{name}: {image} has no exact version")
        if image in clients and version:
            client = re.search(rf"^{clients[image]}==(\d+\.\d+)", constraints, re.MULTILINE)
            if client and Version(version[1]) < Version(client[1]):
                faults.append(f"{name}: {image} {version[1]} is older than its client {client[1]}")
    return faults


def commands(compose: Compose) -> list[str]:
    """What our containers start is there: modules, scripts, files."""
    faults = []
    for name, service in services(compose):
        if not ours(service):
            continue
        program, *rest = shlex.split(service["command"])
        if program == "python":
            module = rest[1]
            if util.find_spec(module) is None or util.find_spec(f"{module}.__main__") is None:
                faults.append(f"{name}: there is no module {module} to start")
        elif not metadata.entry_points(group="console_scripts", name=program):
            faults.append(f"{name}: there is no command {program}")
        files = [word for word in rest if word.endswith(".py")]
        faults += [f"{name}: there is no file {file}" for file in files if not (ROOT / file).is_file()]
    return faults


def health_checks(compose: Compose) -> list[str]:
    """Each asks an address that its service answers at."""
    faults = []
    for name, service in services(compose):
        if service["restart"] == "on-failure":
            continue  # it ends
        test = service.get("healthcheck", {}).get("test", "")
        if test.startswith("pg_isready"):
            unknown = [word for word in shlex.split(test) if word.startswith("--") and word not in PG_ISREADY_OPTIONS]
            faults += [f"{name}: pg_isready has no {word}" for word in unknown]
            continue
        asked = re.search(r"http://localhost:(\d+)(/[\w/]+)", test) or re.search(r"GET (/\w+) .*localhost:(\d+)", test)
        port_and_path = sorted(asked.groups()) if asked else []  # "/..." comes before digits
        if port_and_path not in [sorted(one) for one in endpoints(service["command"])]:
            faults.append(f"{name}: nothing answers at {' '.join(port_and_path) or 'no address'}")
    return faults


CHECKS = (form, references, known_settings, addresses, privileges, images, commands, health_checks)


@cache
def endpoints(command: str) -> list[tuple[str, str]]:
    """Port and path of the health checks that a command serves, as the installed packages have them."""
    if command.startswith("./entrypoint.sh"):
        from qdrant_client.http.api import service_api

        source = Path(service_api.__file__).read_text(encoding="utf-8")  # made from Qdrant's own OpenAPI description
        return [("6333", path) for path in re.findall(r'url="(/\w+z)"', source)]
    if "prefect server start" in command:
        from prefect.server.api.server import create_api_app

        return [("4200", f"/api{getattr(route, 'path', '')}") for route in create_api_app().routes]
    if "--with-healthcheck" in command:
        from prefect.settings import get_current_settings
        from prefect.workers.server import _build_healthcheck_server

        app: Any = _build_healthcheck_server(lambda: True).config.app
        return [(str(get_current_settings().worker.webserver.port), path) for path in app.openapi()["paths"]]
    if "flows serve" in command:
        from prefect.runner import Runner
        from prefect.runner.server import build_server
        from prefect.settings import get_current_settings

        paths = asyncio.run(build_server(Runner())).openapi()["paths"]
        return [(str(get_current_settings().runner.server.port), path) for path in paths]
    if "python -m ui" in command:
        from streamlit.web.server.starlette.starlette_routes import create_health_routes

        runtime: Any = None  # asked when the page is
        return [("8501", getattr(route, "path", "")) for route in create_health_routes(runtime, None)]
    return []


# --- they hold, and each would say so if it did not


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_compose_file_is_sound(check: Callable[[Compose], list[str]]) -> None:
    assert check(compose_file()) == []


def _wrong_key(compose: Compose) -> None:
    compose["services"]["worker"]["comand"] = "prefect"


def _wrong_condition(compose: Compose) -> None:
    compose["services"]["page"]["depends_on"] = {"qdrant": {"condition": "healthy"}}


def _unexplained_variable(compose: Compose) -> None:
    compose["services"]["page"]["environment"] = {"RADSEARCH_MODEL": "${MODELL}"}


def _default_secret(compose: Compose) -> None:
    compose["services"]["page"]["environment"] = {"RADSEARCH_SECRET": "${RADSEARCH_SECRET:-secret}"}


def _written_secret(compose: Compose) -> None:
    compose["services"]["page"]["environment"] = {"RADSEARCH_SECRET": KEY}


def _unknown_setting(compose: Compose) -> None:
    compose["services"]["page"]["environment"] = {"RADSEARCH_INDEKS": "https://qdrant:6333"}


def _open_port(compose: Compose) -> None:
    compose["services"]["qdrant"]["ports"] = ["6333:6333"]


def _port_open_by_default(compose: Compose) -> None:
    compose["services"]["qdrant"]["ports"] = ["${BIND_ADDRESS:-0.0.0.0}:6333:6333"]


def _own_network(compose: Compose) -> None:
    compose["services"]["page"]["network_mode"] = "host"


def _writable_archive(compose: Compose) -> None:
    compose["services"]["worker"]["volumes"] = [{"type": "bind", "source": "/a", "target": "/archive"}]


def _new_privileges(compose: Compose) -> None:
    del compose["services"]["postgres"]["security_opt"]


def _latest(compose: Compose) -> None:
    compose["services"]["postgres"]["image"] = "postgres:latest"


def _old_server(compose: Compose) -> None:
    compose["services"]["qdrant"]["image"] = "qdrant/qdrant:v1.17.1"


def _no_such_module(compose: Compose) -> None:
    compose["services"]["scheduler"]["command"] = "python -m schedules serve"


def _no_such_command(compose: Compose) -> None:
    compose["services"]["worker"]["command"] = "prefekt worker start"


def _no_such_file(compose: Compose) -> None:
    compose["services"]["page"]["command"] = "python -m streamlit run ui/page.py"


def _no_such_path(compose: Compose) -> None:
    test = compose["services"]["prefect"]["healthcheck"]["test"]
    compose["services"]["prefect"]["healthcheck"]["test"] = test.replace("/api/health", "/health")


def _wrong_port(compose: Compose) -> None:
    test = compose["services"]["qdrant"]["healthcheck"]["test"]
    compose["services"]["qdrant"]["healthcheck"]["test"] = test.replace("6333", "6334")


def _no_health_check(compose: Compose) -> None:
    del compose["services"]["worker"]["healthcheck"]


@pytest.mark.parametrize(
    ("spoil", "check", "said"),
    [
        (_wrong_key, form, "$.services.worker: Unevaluated properties are not allowed ('comand' was unexpected)"),
        (_wrong_condition, form, "$.services.page.depends_on"),
        (_unexplained_variable, references, "MODELL is not in .env.example"),
        (_default_secret, references, "RADSEARCH_SECRET has a default"),
        (_written_secret, references, "page: RADSEARCH_SECRET is written out"),
        (_unknown_setting, known_settings, "there is no setting RADSEARCH_INDEKS"),
        (_open_port, addresses, "qdrant listens on 6333:6333"),
        (_port_open_by_default, addresses, "qdrant listens on ${BIND_ADDRESS:-0.0.0.0}:6333:6333"),
        (_own_network, addresses, "page is on the machine's own network"),
        (_writable_archive, privileges, "worker may write into the archive"),
        (_new_privileges, privileges, "postgres may get new privileges"),
        (_latest, images, "postgres: postgres has no exact version"),
        (_old_server, images, "qdrant: qdrant/qdrant 1.17.1 is older than its client"),
        (_no_such_module, commands, "scheduler: there is no module schedules to start"),
        (_no_such_command, commands, "worker: there is no command prefekt"),
        (_no_such_file, commands, "page: there is no file ui/page.py"),
        (_no_such_path, health_checks, "prefect: nothing answers at /health 4200"),
        (_wrong_port, health_checks, "qdrant: nothing answers at /readyz 6334"),
        (_no_health_check, health_checks, "worker: nothing answers at no address"),
    ],
)
def test_a_spoilt_compose_file_is_found_out(
    spoil: Callable[[Compose], None], check: Callable[[Compose], list[str]], said: str
) -> None:
    compose = copy.deepcopy(compose_file())
    spoil(compose)
    faults = check(compose)
    assert any(fault.startswith(said) for fault in faults), faults


# --- what the rooms get


@pytest.mark.parametrize("name", ["worker", "worker-gpu", "scheduler", "scheduler-gpu", "page"])
def test_a_room_can_use_its_settings(name: str) -> None:
    settings = load_settings(environment_of(compose_file()["services"][name], filled_in()))
    assert settings.on_server
    assert settings.secret == KEY
    connect(settings.index, api_key=settings.qdrant_api_key, timeout_seconds=1)  # raises where the key may not be sent


def test_a_cluster_keeps_two_copies() -> None:
    told = {"RADSEARCH_QDRANT_SHARDS": "6", "RADSEARCH_QDRANT_REPLICAS": "2", "QDRANT_CLUSTER": "true"}
    variables = {**filled_in(), **told}
    assert told.keys() <= example().keys()
    nodes = {name: service for name, service in services(compose_file()) if name.startswith("qdrant")}
    assert [service.get("profiles") for service in nodes.values()] == [None, ["cluster"], ["cluster"]]
    for name, service in nodes.items():
        assert environment_of(service, variables)["QDRANT__CLUSTER__ENABLED"] == "true"
        assert f"--uri https://{name}:6335" in service["command"]
    settings = load_settings(environment_of(compose_file()["services"]["worker"], variables))
    assert (settings.qdrant_shards, settings.qdrant_replicas) == (6, 2)


def test_what_works_on_a_gpu_differs_in_nothing_else() -> None:
    compose = compose_file()["services"]
    for name in ("worker", "scheduler"):
        plain, gpu = compose[name], compose[f"{name}-gpu"]
        assert {key for key in plain | gpu if plain.get(key) != gpu.get(key)} == {
            "profiles",
            "image",
            "build",
            "deploy",
            "hostname",
        }


def test_the_image_calls_nobody_and_holds_no_secret() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name, value in QUIET.items():
        assert f"{name}={value}" in dockerfile
    assert re.search(r"^FROM python:3\.11\.\d+-slim-\w+$", dockerfile, re.MULTILINE)
    assert dockerfile.rstrip().endswith("USER radsearch")
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "root_packages"
    ]
    assert kept == {
        *layers,
        ".streamlit/config.toml",
        "LICENSE",
        "README.md",
        "constraints.txt",
        "prefect.yaml",
        "pyproject.toml",
    }
    assert all((ROOT / name).exists() for name in kept)


def test_secrets_stay_out_of_the_repository() -> None:
    git = shutil.which("git")
    if not git or not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    assert subprocess.run([git, "check-ignore", "--quiet", ".env"], cwd=ROOT, check=False).returncode == 0


def test_the_pool_gets_every_flow() -> None:
    from prefect.cli.deploy._config import _load_deploy_configs_and_actions
    from prefect.flows import load_flow_from_entrypoint
    from rich.console import Console

    from flows.settings import FLOWS

    deployments, actions = _load_deploy_configs_and_actions(ROOT / "prefect.yaml", console=Console())
    entrypoints = {deployment["entrypoint"] for deployment in deployments}
    assert entrypoints == {f"{module}.{name}" for module, name in FLOWS.values()} | {
        "flows.ingest_archive.ingest_partition"
    }
    for entrypoint in entrypoints:
        load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    assert {(one["name"], one["work_pool"]["name"]) for one in deployments} == {("pool", "radsearch")}
    assert "--pool radsearch" in compose_file()["services"]["worker"]["command"]
    assert actions["pull"] is None  # Prefect's own: the folder that was deployed from


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prefect", "worker", "scheduler", "page"])
def test_a_command_has_the_options_it_is_given(name: str) -> None:
    program, *words = shlex.split(compose_file()["services"][name]["command"])
    options = [word for word in words if word.startswith("--")]
    start = words[: words.index(options[0])] if options else words
    path = [sys.executable] if program == "python" else [str(Path(sysconfig.get_path("scripts")) / program)]
    said = subprocess.run([*path, *start, "--help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert [option for option in options if option not in said] == []


# --- the certificate, and the health check that needs it


class _Ready(BaseHTTPRequestHandler):
    """Answers as Qdrant does: /readyz with the status that the test set."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/readyz" else 404)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


_Ready.protocol_version = "HTTP/1.1"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """What the service of this name makes: its command, with a folder of this machine."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    compose = compose_file()["services"]["certificates"]
    words = shlex.split(compose["command"].replace("/certificates.sh", "deploy/certificates.sh"))
    command = [str(tmp_path) if word == "/certificates" else word for word in words]
    for _ in range(2):  # the second time it leaves all as it is
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    return tmp_path


@pytest.fixture
def server(certificates: Path) -> Iterator[Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    http: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Ready)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    http.status = 200
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


def test_the_authority_signs_once_and_is_gone(certificates: Path) -> None:
    modes = {file.name: file.stat().st_mode & 0o777 for file in certificates.iterdir()}
    assert modes == {"ca.pem": 0o644, "cert.pem": 0o644, "key.pem": 0o600}


def test_the_certificate_is_good_for_every_node(certificates: Path) -> None:
    nodes = [name for name, _ in services(compose_file()) if name.startswith("qdrant")]
    for name in ["localhost", *nodes]:
        words = ["-verify_hostname", name, "-CAfile", str(certificates / "ca.pem"), str(certificates / "cert.pem")]
        subprocess.run(["openssl", "verify", "-purpose", "sslserver", *words], check=True, capture_output=True)  # noqa: S607 -- the system's openssl


def test_a_room_trusts_the_certificate(server: Any, certificates: Path) -> None:
    address = f"https://localhost:{server.server_address[1]}"
    trusting = {"api_key": KEY, "timeout_seconds": 5, "ca_certificate": certificates / "ca.pem"}
    with connect_for_files(address, **trusting) as client:
        assert client.get("/readyz").status_code == 200
    with connect_for_files(address, api_key=KEY, timeout_seconds=5) as client, pytest.raises(httpx.ConnectError):
        client.get("/readyz")


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_sees_whether_a_node_is_ready(
    server: Any, certificates: Path, status: int, *, healthy: bool
) -> None:
    server.status = status
    test = compose_file()["services"]["qdrant"]["healthcheck"]["test"]
    test = test.replace("localhost:6333", f"localhost:{server.server_address[1]}").replace(
        "/certificates", str(certificates)
    )
    assert (subprocess.run(["/bin/sh", "-c", test], check=False).returncode == 0) is healthy


@pytest.mark.parametrize("file", ["", "/srv/access.toml"])
def test_an_access_file_that_is_named_is_asked(file: str) -> None:
    """Else whoever logs in would see everything, with the file at hand."""
    page = compose_file()["services"]["page"]
    variables = {**filled_in(), "ACCESS_FILE": file}
    (mounted,) = (one for one in page["volumes"] if isinstance(one, dict) and "ACCESS" in one["source"])
    asked = environment_of(page, variables)["RADSEARCH_ACCESS"]
    assert asked == (mounted["target"] if file else "")
    assert interpolate(mounted["source"], variables) == (file or "/dev/null")
