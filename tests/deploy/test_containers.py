"""Image and compose file: what can be known of them without a daemon that builds and runs."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from streamptycho.config import ServiceEndpoints, load
from streamptycho_services import cli

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "deploy"
KNOWN = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}

SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "build", "command"],
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}, "args": {"type": "object"}},
        },
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": {"type": "string", "pattern": "^[0-9]+s$"},
        "read_only": {"type": "boolean"},
        "cap_drop": {"type": "array", "items": {"type": "string"}},
        "security_opt": {"type": "array", "items": {"type": "string"}},
        "tmpfs": {"type": "array", "items": {"type": "string"}},
        "extra_hosts": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:[^:]+$"}},
        "logging": {"type": "object"},
        "profiles": {"type": "array", "items": {"type": "string"}},
        "command": {"type": "array", "items": {"type": "string"}},
        "healthcheck": {"type": "object"},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": ":"}},
        "networks": {"type": "object"},
        "environment": {"type": "object"},
        "ports": {"type": "array", "items": {"type": "string", "pattern": "^[0-9]+:[0-9]+$"}},
        "deploy": {"type": "object"},
    },
}
"""The part of the Compose specification that the file uses."""


def instructions() -> list[tuple[str, str]]:
    """Instruction and argument of each line of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n", " ", (FOLDER / "Dockerfile").read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line[0], line[1]) for line in lines]


def of(name: str) -> list[str]:
    return [argument for instruction, argument in instructions() if instruction == name]


class TestImage:
    def test_every_instruction_is_one(self):
        assert {name for name, _ in instructions()} <= KNOWN
        assert instructions()[0][0] == "FROM"

    def test_every_source_that_is_copied_exists_and_is_not_ignored(self):
        kept = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
        stages = {argument.split(" AS ")[1] for argument in of("FROM") if " AS " in argument}
        copied = []
        for argument in of("COPY"):
            *sources, _ = argument.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in stages
            else:
                copied += sources
        assert sorted(copied) == sorted(kept), "and nothing is sent to the builder for nothing"
        assert all((ROOT / source).exists() for source in copied)

    def test_what_the_package_is_built_from_is_there(self):
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        copied = " ".join(of("COPY"))
        for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
            assert package.split("/")[0] in copied
        for file in (project["project"]["readme"], *project["project"]["license-files"], "constraints.txt"):
            assert file in copied
        for argument in re.findall(r"EXTRA=(\w+)", (FOLDER / "Dockerfile").read_text()):
            assert argument in project["project"]["optional-dependencies"]

    def test_every_list_parses_and_the_default_command_is_one_of_ours(self):
        entry, command = json.loads(of("ENTRYPOINT")[0]), json.loads(of("CMD")[0])
        assert entry == ["streamptycho"]
        result = CliRunner().invoke(cli.app, [*command, "--help"])
        assert result.exit_code == 0, result.output
        json.loads(of("VOLUME")[0])
        check = of("HEALTHCHECK")[0].partition(" CMD ")[2]
        python, flag, program = json.loads(check)
        assert (python, flag) == ("python", "-c")
        compile(program, "healthcheck", "exec")
        port = re.findall(r":(\d+)/healthz", program)[0]
        assert command[command.index("--metrics-port") + 1] == port
        assert port in of("EXPOSE")[0].split()

    def test_every_shell_line_parses(self):
        for argument in of("RUN"):
            assert shlex.split(argument)

    def test_it_does_not_run_as_root(self):
        assert of("USER") == ["streamptycho"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return made


class TestCompose:
    def test_has_the_form_of_the_specification(self, compose):
        assert set(compose) == {"name", "x-service", "services", "volumes"}
        for name, service in compose["services"].items():
            errors = [error.message for error in Draft202012Validator(SERVICE).iter_errors(service)]
            assert errors == [], name

    def test_files_and_volumes_that_it_names_exist(self, compose):
        for service in compose["services"].values():
            context = (FOLDER / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()
            for volume in service.get("volumes", []):
                source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
                assert source in compose["volumes"] or source == "./data" or (FOLDER / source).is_file()

    def test_every_command_takes_these_flags(self, compose):
        for name, service in compose["services"].items():
            result = CliRunner().invoke(cli.app, [*service["command"], "--help"])
            assert result.exit_code == 0, (name, result.output)

    @pytest.mark.parametrize("profile", ["cpu", "gpu"])
    def test_each_profile_has_every_service_under_the_names_of_the_configuration(self, compose, profile):
        running = {
            name: service for name, service in compose["services"].items() if profile in service.get("profiles", [profile])
        }
        commands = sorted(service["command"][0] for service in running.values())
        assert commands == ["dashboard", "documents", "receive", "reconstruct", "write"]
        aliases = [a for s in running.values() for net in s.get("networks", {}).values() for a in net.get("aliases", [])]
        config = load(FOLDER / "compose.toml")
        for name in ServiceEndpoints.model_fields:
            address = getattr(config.services, name)
            if isinstance(address, str):
                host = address.removeprefix("tcp://").rpartition(":")[0]
                assert host in {*running, *aliases}, name

    def test_graphics_cards_are_asked_for_where_they_are_used(self, compose):
        gpu = compose["services"]["reconstruct-gpu"]
        (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert gpu["build"]["args"]["EXTRA"] in (FOLDER / "Dockerfile").read_text()

    def test_keys_are_made_where_the_configuration_looks_for_them(self, compose):
        command, folder = compose["services"]["keys"]["command"]
        assert command == "keys"
        assert str(load(FOLDER / "compose.toml").security.secret_key) == f"{folder}/streamptycho.key_secret"

    def test_health_is_asked_where_it_is_answered(self, compose):
        for name, service in compose["services"].items():
            check = service.get("healthcheck", {})
            if check.get("disable"):
                continue
            command = service["command"]
            flag = "--port" if "test" in check else "--metrics-port"
            port = command[command.index(flag) + 1]
            program = check["test"][3] if "test" in check else of("HEALTHCHECK")[0]
            assert f"127.0.0.1:{port}/healthz" in program, name
