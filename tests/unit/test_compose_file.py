"""compose.yaml and the images: their flags exist, and what one side names the other has."""

import tomllib

import pytest
import yaml

from support.deploy_files import ROOT, configuration, environment, images, load, resolved
from tandem.cli import main as tandem

[COMPOSE] = load("compose.yaml")
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
ENGINES = [name for name, service in OURS.items() if "engine" in service["build"]["target"]]
TOKENIZERS = [name for name in OURS if name not in ENGINES]
OBSERVERS = [name for name in COMPOSE["services"] if name not in OURS]

SERVICE = pytest.mark.parametrize("name", OURS)
IMAGE = pytest.mark.parametrize("target", images())


def config_of(name):
    return configuration(OURS[name]["build"]["target"], OURS[name]["command"])


def known_as(name):
    """The name of a service in the network."""
    [alias] = OURS[name].get("networks", {}).get("default", {}).get("aliases", [name])
    return alias


@SERVICE
def test_a_service_stops_before_it_is_killed(name):
    seconds = OURS[name]["stop_grace_period"]
    assert seconds.endswith("s")
    config = config_of(name)
    assert int(seconds[:-1]) > config.lame_duck_s + config.grace_s + 10  # the core's own end


@SERVICE
def test_a_service_is_locked_in(name):
    service = OURS[name]
    assert service["read_only"]
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_waits_for_the_engine_of_its_profile_on_their_socket(name):
    [(engine, condition)] = OURS[name]["depends_on"].items()
    assert condition == {"condition": "service_healthy"}
    assert OURS[engine]["profiles"] == OURS[name]["profiles"]
    assert config_of(name).engine == config_of(engine).listen
    assert config_of(name).model == config_of(engine).model
    path = config_of(engine).listen.removeprefix("unix:")
    for each in (name, engine):
        assert f"run:{path.rpartition('/')[0]}" in OURS[each]["volumes"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_is_published_on_loopback_only(name):
    [published] = OURS[name]["ports"]
    assert resolved(published, {}) == "127.0.0.1:50051:50051"
    assert config_of(name).listen == "0.0.0.0:50051"


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_not_published(name):
    assert "ports" not in OURS[name]


@SERVICE
def test_volumes_are_declared(name):
    sources = {resolved(volume, {}).partition(":")[0] for volume in OURS[name]["volumes"]}
    assert sources <= COMPOSE["volumes"].keys()


@SERVICE
def test_images_are_named_for_their_targets(name):
    service = OURS[name]
    assert service["image"].partition(":")[0] == f"tandem-{service['build']['target']}"
    assert service["build"]["target"] in images()


@pytest.mark.parametrize("name", OBSERVERS)
def test_an_observer_is_on_loopback_and_what_it_reads_is_there(name):
    service = COMPOSE["services"][name]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for volume in service["volumes"]:
        source = volume.partition(":")[0]
        assert (ROOT / source).is_dir() if source.startswith("./") else source in COMPOSE["volumes"]


def test_prometheus_asks_where_the_services_have_their_metrics():
    [prometheus] = load("deploy/prometheus/prometheus.yml")
    scraped = {
        (dns["names"][0], dns["port"])
        for job in prometheus["scrape_configs"]
        for dns in job["dns_sd_configs"]
    }
    for profile in ("cpu", "gpu"):
        names = [name for name in OURS if OURS[name]["profiles"] == [profile]]
        assert scraped == {
            (known_as(name), int(config_of(name).metrics_listen.rpartition(":")[2])) for name in names
        }


@IMAGE
def test_an_image_starts_without_a_command_line_and_finds_its_health(target):
    image = images()[target]
    config = configuration(target, yaml.safe_load(image["CMD"]))
    assert environment(image)["TANDEM_TARGET"] == config.listen.replace("0.0.0.0", "127.0.0.1")
    command = yaml.safe_load(image["HEALTHCHECK"].partition("CMD ")[2])
    assert command[0] == "tandem"
    # 2 would be wrong usage.
    assert tandem([*command[1:], "--target=unix:/nowhere", "--timeout=0.1"]) == 1


@IMAGE
def test_an_image_runs_as_a_user_that_orchestrators_can_tell_from_root(target):
    assert images()[target]["USER"] == "10001:10001"


def test_the_build_sees_every_package_of_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    wanted = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    wanted += [project["project"]["readme"], *project["project"]["license-files"], "constraints.txt"]
    assert {f"!{path}" for path in wanted} <= set(lines)
