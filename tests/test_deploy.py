"""The service files name only commands and options that exist, and no root."""

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest
import yaml

import fedprune
from fedprune.simulations.cli import app, plain_command

DEPLOY = Path(fedprune.__file__).parents[2] / "docs" / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]


def parse(words):
    """Parse words as the command line does; return what each parameter became."""
    root = plain_command(app)
    command = root.commands[words[0]]
    with command.make_context(
        words[0], list(words[1:]), parent=click.Context(root)
    ) as c:
        return c.params


def unit(path):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(path)
    return parser


def test_an_option_that_does_not_exist_would_be_found():
    with pytest.raises(click.UsageError, match="No such option"):
        parse(["serve", "--certificates", "x"])


def test_there_is_a_unit_for_each_side():
    assert [path.name for path in UNITS] == [
        "fedprune-client@.service",
        "fedprune-server.service",
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_a_unit_starts_a_command_that_exists_with_tls_and_no_root(path):
    service = unit(path)["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program == "/opt/fedprune/bin/fedprune"
    found = parse(words)
    assert found["tls"] is not None
    assert found["insecure"] is False
    place = f"/var/lib/{service['StateDirectory']}"
    assert str(found["state"]).startswith(f"{place}/")
    assert service["WorkingDirectory"] == place
    assert service["User"] == "fedprune"
    assert service["Restart"] == "always"
    assert service["NoNewPrivileges"] == "yes"


def test_a_service_has_a_state_folder_of_its_own_that_it_can_write():
    for path in UNITS:
        service = unit(path)["Service"]
        place = f"/var/lib/{service['StateDirectory']}/own"
        assert service["Environment"] == f"FEDPRUNE_STATE={place}"
    text = (DEPLOY.parent / "devices.md").read_text(encoding="utf-8")
    assert unit(UNITS[1])["Service"]["Environment"] in text
    for service in SERVICES.values():
        place = service["environment"]["FEDPRUNE_STATE"]
        assert place.startswith(f"{state_of(service)['target']}/")


def state_of(service):
    """Return the one volume of a container that is no folder of the user."""
    (volume,) = (v for v in service["volumes"] if v["type"] == "volume")
    assert volume["source"] in COMPOSE["volumes"]
    return volume


def test_two_instances_of_a_device_share_no_file():
    service = unit(UNITS[0])["Service"]
    for key in ("StateDirectory", "WorkingDirectory", "Environment", "EnvironmentFile"):
        assert "%i" in service[key]
    found = parse(shlex.split(service["ExecStart"])[1:])
    assert found["id_"] == "%i"
    assert all("%i" in str(found[key]) for key in ("state", "tls"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_systemd_takes_the_unit(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    copy = tmp_path / path.name.replace("@", "@edge-01")
    copy.write_text(text.replace("/opt/fedprune/bin/fedprune", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_starts_a_command_that_exists_with_tls_and_no_root(name):
    service = SERVICES[name]
    found = parse(service["command"])
    assert found["tls"] is not None
    assert found["insecure"] is False
    assert service["user"] == "10001"
    assert service["restart"] == "on-failure"
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["init"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_its_health_check_asks_the_state_folder_that_it_writes(name):
    service = SERVICES[name]
    kind, program, *words = service["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "fedprune")
    found = parse(words)
    assert words[0] == "status"
    assert found["check"] is True
    assert found["state"] == parse(service["command"])["state"]
    assert str(found["state"]).startswith(f"{state_of(service)['target']}/")


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_that_a_container_names_is_mounted(name):
    service = SERVICES[name]
    found = parse(service["command"])
    places = [volume["target"] for volume in service["volumes"]]
    named = [found["file"], found["tls"], found["state"]]
    named += [str(found["data"]).removeprefix("npz:")] if found.get("data") else []
    for path in named:
        assert any(str(path).startswith(place) for place in places), path


@pytest.mark.parametrize("name", SERVICES)
def test_the_files_of_a_container_are_in_the_folder_that_the_user_names(name):
    for volume in SERVICES[name]["volumes"]:
        if volume["type"] == "bind":
            assert re.match(r"\$\{FEDPRUNE_DIR(:\?[^}]+)?\}/", volume["source"])
            assert volume["read_only"] is True


def test_a_client_can_be_scaled_and_its_replicas_share_no_state_and_no_key():
    client = SERVICES["client"]
    assert "container_name" not in client
    assert "ports" not in client
    found = parse(client["command"])
    assert found["id_"] == ""
    assert "{id}" in str(found["state"])
    assert "{id}" in found["data"]
    assert client["deploy"]["replicas"] == "${FEDPRUNE_CLIENTS:-1}"


def test_the_client_reaches_the_server_by_the_name_and_port_that_it_listens_at():
    listen = parse(SERVICES["server"]["command"])["listen"]
    server = parse(SERVICES["client"]["command"])["server"]
    assert server == f"server:{listen.rpartition(':')[2]}"
    assert SERVICES["client"]["depends_on"]["server"]["condition"] == "service_healthy"


def test_the_image_runs_the_command_as_a_user_of_the_same_number():
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["fedprune"]' in text
    assert "--uid 10001 fedprune" in text
    assert text.index("useradd") < text.index("USER fedprune")


def test_the_image_is_built_from_all_that_a_package_needs_and_nothing_else():
    root = DEPLOY.parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {link.name for link in (root / "src" / "fedprune").iterdir()}
    wanted = {"pyproject.toml", "constraints.txt", project["project"]["readme"]}
    wanted |= {"src", *project["project"]["license-files"]}
    wanted |= {name for name in packages if (root / name).is_dir()}
    text = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == wanted
    assert all((root / name).exists() for name in wanted)
