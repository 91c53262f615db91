"""docker-compose.yml and the Dockerfile: well formed, safe by default, and every knob a real setting."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from api.errors import NotAllowed
from api.guard import check_exposure
from api.guard_origin import check_origin
from rag.config import Settings, load_settings
from rag.errors import InvalidConfig
from rag.keys import KeyFile

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
HEADER = TEXT.split("\nname:")[0]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SCHEMA = Draft202012Validator(json.loads((ROOT / "tests" / "compose_schema.json").read_text(encoding="utf-8")))
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
FOR_COMPOSE = {
    *("KVASIR_BIND", "KVASIR_PORT", "KVASIR_MEMORY", "KVASIR_REDIS_MEMORY", "KVASIR_TORCH_INDEX", "KVASIR_GPU_PORT"),
    *("KVASIR_GPU_MEMORY", "KVASIR_GRAFANA_PORT", "KVASIR_REDIS_PASSWORD", "KVASIR_GRAFANA_PASSWORD"),
}
"""Knobs of the compose file itself; the server never sees them."""
SECRET = "KVASIR_REDIS_PASSWORD_FILE"
"""The file of the container that holds Redis's password; here there is none."""
SERVICES = ("api", "api-gpu", "redis", "prometheus", "grafana")


def filled(environ: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in, the way Compose does it."""
    text = _VARIABLE.sub(lambda match: environ.get(match[1]) or match[2], TEXT)
    assert "${" not in text, "a variable without a default"
    body: dict[str, Any] = yaml.safe_load(text)
    return body


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = filled({})["services"][name]
    return found


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the server sees, given the knobs of ``environ``."""
    given = filled(environ)["services"]["api"]["environment"]
    return {name: "" if value is None else str(value) for name, value in given.items() if name != SECRET}


def test_the_file_fits_the_schema() -> None:
    SCHEMA.validate(filled({}))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda api: api.update(restrat="always"),
        lambda api: api.update(restart="sometimes"),
        lambda api: api["healthcheck"].update(interval="10 seconds"),
        lambda api: api["deploy"]["resources"]["limits"].update(memory="much"),
        lambda api: api.update(ports=["8080:http"]),
        lambda api: api["healthcheck"].update(test=["python", "-c", "pass"]),
    ],
)
def test_the_schema_catches_mistakes(spoil: Any) -> None:
    body = filled({})
    spoil(body["services"]["api"])
    with pytest.raises(ValidationError):
        SCHEMA.validate(body)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_healthy_and_not_root(name: str) -> None:
    chosen = service(name)
    assert chosen["user"].split(":")[0] not in ("0", "root")
    assert chosen["restart"] == "unless-stopped"
    assert chosen["deploy"]["resources"]["limits"]["memory"]
    assert chosen["healthcheck"]["test"]
    assert chosen["read_only"]
    assert chosen["cap_drop"] == ["ALL"]


def test_redis_is_a_cache_that_keeps_whole_values_and_no_file() -> None:
    command = service("redis")["command"]
    assert command[:2] == ["sh", "/deploy/redis.sh"]
    given = dict(zip(command[2::2], command[3::2], strict=True))
    assert given["--maxmemory-policy"] == "allkeys-lfu"
    assert (given["--save"], given["--appendonly"]) == ("", "no")
    assert service("redis")["volumes"] == ["./deploy/redis.sh:/deploy/redis.sh:ro"]


def test_only_loopback_is_published_by_default() -> None:
    for name in SERVICES:
        assert all(port.startswith("127.0.0.1:") for port in service(name).get("ports", []))
    assert service("api")["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in service("redis")
    published = [port for name in SERVICES for port in service(name).get("ports", [])]
    assert len({port.split(":")[1] for port in published}) == len(published), "profiles may run together"


def test_profiles_add_to_the_two_that_always_run() -> None:
    profiles = {name: service(name).get("profiles", []) for name in SERVICES}
    assert profiles == {
        "api": [],
        "api-gpu": ["gpu"],
        "redis": [],
        "prometheus": ["observability"],
        "grafana": ["observability"],
    }
    (device,) = service("api-gpu")["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert service("api-gpu")["environment"] == service("api")["environment"]


def test_secrets_that_are_used_are_declared_and_never_committed() -> None:
    body = filled({})
    used = {secret for one in body["services"].values() for secret in one.get("secrets", ())}
    assert used == set(body["secrets"])
    assert {Path(secret["file"]).parent.name for secret in body["secrets"].values()} == {"deploy"}
    assert "deploy/*_password" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert service("api")["environment"][SECRET] == "/run/secrets/redis_password"
    assert "password" not in service("api")["environment"]["KVASIR_REDIS_URL"]


def test_volumes_that_are_used_are_declared() -> None:
    body = filled({})
    used = {volume.split(":")[0] for one in body["services"].values() for volume in one.get("volumes", ())}
    files = {name for name in used if name.startswith("./")}
    assert used - files == set(body["volumes"])
    assert all((ROOT / name).exists() for name in files)


def test_the_defaults_are_the_servers_own() -> None:
    assert load_settings(environ=environment({})) == load_settings(
        environ={
            "KVASIR_HOME": "/data",
            "KVASIR_SERVER__HOST": "0.0.0.0",
            "KVASIR_SERVER__PUBLISHED": "127.0.0.1",
            "KVASIR_REDIS_URL": "redis://kvasir@redis:6379/0",
        }
    )


def _knobs() -> list[str]:
    return sorted(set(re.findall(r"KVASIR_\w+(?<!_)", TEXT + DOCKERFILE)) - {"KVASIR_HOME", SECRET})


def _value(settings: Settings, knob: str) -> object:
    table, _, key = knob.removeprefix("KVASIR_").lower().rpartition("__")
    return getattr(getattr(settings, table) if table else settings, key)


@pytest.mark.parametrize("knob", [knob for knob in _knobs() if knob not in FOR_COMPOSE])
def test_every_knob_is_a_setting_and_reaches_the_server(knob: str) -> None:
    if knob in ("KVASIR_REDIS_URL", "KVASIR_SERVER__HOST", "KVASIR_SERVER__PORT", "KVASIR_SERVER__PUBLISHED"):
        found = _value(load_settings(environ=environment({})), knob)
        assert (str(found).lower() if isinstance(found, bool) else str(found)) == environment({})[knob]
        return
    before = _value(load_settings(environ=environment({})), knob)
    others = {
        "KVASIR_DEFAULT_PIPELINE": "bm25",
        "KVASIR_REMOTE__BASE_URL": "http://engine:8000/v1",
        "KVASIR_CACHE__MODE": "link-16",
        "KVASIR_SERVER__OPEN": "True",
        "KVASIR_SERVER__OPEN_METRICS": "True",
    }
    wanted = others.get(knob) or (str(before + 1) if isinstance(before, int) else "another")
    after = _value(load_settings(environ=environment({knob: wanted.lower() if wanted == "True" else wanted})), knob)
    assert str(after) == wanted != str(before)


def test_published_beyond_this_machine_it_wants_keys_or_a_word(tmp_path: Path) -> None:
    def checked(environ: Mapping[str, str]) -> None:
        check_exposure(replace(load_settings(environ=environment(environ)), home=tmp_path))

    checked({})
    with pytest.raises(InvalidConfig, match="kvasir keys create"):
        checked({"KVASIR_BIND": "0.0.0.0"})
    checked({"KVASIR_BIND": "0.0.0.0", "KVASIR_SERVER__OPEN": "true"})
    KeyFile(tmp_path).create("one", "read")
    checked({"KVASIR_BIND": "0.0.0.0"})


@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1:8080", True), ("api:8080", True), ("evil.example", False)])
def test_names_that_may_be_anybodys_are_refused_in_the_container_too(host: str, *, allowed: bool) -> None:
    server = load_settings(environ=environment({})).server
    refused = nullcontext() if allowed else pytest.raises(NotAllowed)
    with refused:
        check_origin([(b"host", host.encode())], server)


def test_every_knob_is_explained_in_the_header() -> None:
    handed = set(re.findall(r"\$\{(\w+):-", TEXT))
    assert handed
    for knob in handed:
        assert re.search(rf"^#   {knob}\s+\S", HEADER, re.MULTILINE), knob


def test_a_knob_that_is_no_setting_would_be_noticed() -> None:
    with pytest.raises(InvalidConfig, match="workers"):
        load_settings(environ={"KVASIR_SERVER__WORKRES": "4"})


def test_the_image_runs_as_nobody_in_particular_and_says_how_it_is() -> None:
    stages = DOCKERFILE.split("\nFROM ")
    variants = [stage.split()[-1] for stage in re.findall(r"^FROM tools (.+)$", DOCKERFILE, re.MULTILINE)]
    assert variants == [service(name)["build"]["args"]["VARIANT"] for name in ("api", "api-gpu")]
    assert "ARG VARIANT=cpu" in stages[0]
    last = stages[-1]
    assert re.findall(r"^COPY (.+)$", last, re.MULTILINE) == ["--from=build /opt/kvasir /opt/kvasir"]
    assert re.search(r"^USER (?!root|0)\w+$", last, re.MULTILINE)
    assert "/health" in last.split("HEALTHCHECK")[1]
    uid = re.search(r"--uid (\d+)", last)
    assert uid is not None
    assert service("api")["user"].split(":")[0] == uid[1]
    assert "java" not in DOCKERFILE.split("FROM", 1)[1].lower(), "Java comes with the wheel"


def test_what_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert f"!{name}" in ignored
        assert (ROOT / name).exists()


UNIT = ROOT / "deploy" / "kvasir.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_understands_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8").replace("/opt/kvasir/bin/kvasir", sys.executable)
    unit = tmp_path / "kvasir.service"
    unit.write_text(text, encoding="utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "kvasir.service" in line]) == (0, [])
    looked = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(unit)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert looked.returncode == 0, looked.stdout[-400:] + looked.stderr


def test_the_unit_reads_the_settings_file_that_it_names() -> None:
    text = UNIT.read_text(encoding="utf-8")
    named = re.search(r"^Environment=KVASIR_CONFIG=(\S+)$", text, re.MULTILINE)
    assert named is not None
    assert f"# Settings stand in {named[1]}," in text


def test_the_unit_waits_longer_than_the_server_drains() -> None:
    text = UNIT.read_text(encoding="utf-8")
    server = Settings().server
    least = server.drain_seconds + server.unready_ms / 1e3
    stop = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) > least
    assert int(service("api")["stop_grace_period"].removesuffix("s")) > least
    assert not re.search(r"^[^#]*password=", text, re.IGNORECASE | re.MULTILINE)
