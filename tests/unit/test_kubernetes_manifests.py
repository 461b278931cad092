"""The Kubernetes manifests: names and ports agree with each other, with the flags and with the images."""

import shutil
import subprocess

import pytest
import yaml

from support.deploy_files import ROOT, configuration, images, load
from tandem.cli import main as tandem
from tandem.engine.v1 import engine_pb2
from tandem.v1 import inference_pb2

BASE = "deploy/kubernetes/base"
DOCUMENTS = [
    each for name in ("engine", "tokenizer", "network_policy") for each in load(f"{BASE}/{name}.yaml")
]
WORKLOADS = {
    each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: each
    for each in DOCUMENTS
    if each["kind"] in ("Deployment", "StatefulSet")
}
SERVED = {
    "engine": engine_pb2.DESCRIPTOR.services_by_name["Engine"].full_name,
    "tokenizer": inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name,
}
WORKLOAD = pytest.mark.parametrize("component", WORKLOADS)
OVERLAY = pytest.mark.parametrize("overlay", ["cpu", "gpu"])


def of_kind(kind):
    return [each for each in DOCUMENTS if each["kind"] == kind]


def pod(component):
    return WORKLOADS[component]["spec"]["template"]["spec"]


def container(component):
    [only] = pod(component)["containers"]
    return only


def variables(overlay):
    """The ConfigMap's, as Kustomize merges them."""
    found = {}
    for path in (BASE, f"deploy/kubernetes/overlays/{overlay}"):
        [kustomization] = load(f"{path}/kustomization.yaml")
        for generator in kustomization.get("configMapGenerator", []):
            found.update(literal.split("=", 1) for literal in generator["literals"])
    return found


def config_of(component, overlay="cpu"):
    image = container(component)["image"].removeprefix("tandem-")
    return configuration(image, container(component)["args"], variables(overlay))


@OVERLAY
@WORKLOAD
def test_a_command_line_is_understood_and_listens_on_the_port_that_is_told(component, overlay):
    port = int(config_of(component, overlay).listen.removeprefix("0.0.0.0:"))
    ports = {each["name"]: each["containerPort"] for each in container(component)["ports"]}
    assert ports["grpc"] == port
    assert config_of(component, overlay).metrics_listen == f"0.0.0.0:{ports['metrics']}"
    assert {"name": "TANDEM_TARGET", "value": f"127.0.0.1:{port}"} in container(component)["env"]


@OVERLAY
def test_both_services_have_one_model_and_the_device_of_the_overlay(overlay):
    engine = config_of("engine", overlay)
    assert engine.model == config_of("tokenizer", overlay).model
    assert engine.device == {"cpu": "cpu", "gpu": "cuda"}[overlay]


def test_a_tokenizer_connects_to_the_engines_service():
    name, _, port = config_of("tokenizer").engine.partition(":")
    [service] = [each for each in of_kind("Service") if each["metadata"]["name"] == name]
    assert service["spec"]["selector"] == {"app.kubernetes.io/component": "engine"}
    assert int(port) in [each["port"] for each in service["spec"]["ports"]]


def test_whoever_selects_pods_finds_some():
    selectors = [each["spec"]["selector"] for each in of_kind("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind("NetworkPolicy")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in WORKLOADS.values()]
    for selector in selectors:
        assert [
            each
            for each in WORKLOADS.values()
            if selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]


def test_ports_by_name_are_those_of_the_selected_containers():
    named = [(each["spec"]["selector"], each["spec"]["ports"], "targetPort") for each in of_kind("Service")]
    for policy in of_kind("NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        named += [(selector, rule["ports"], "port") for rule in policy["spec"]["ingress"]]
    for selector, ports, field in named:
        names = {each["name"] for each in container(selector["app.kubernetes.io/component"])["ports"]}
        assert {each[field] for each in ports} <= names


def test_only_tokenizers_reach_an_engine():
    [policy] = [each for each in of_kind("NetworkPolicy") if each["metadata"]["name"] == "tandem-engine"]
    [rule] = [each for each in policy["spec"]["ingress"] if {"port": "grpc"} in each["ports"]]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": "tokenizer"}}}]


@WORKLOAD
def test_probes_ask_for_services_that_are_there(component):
    probes = [container(component)[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    asked = [probe["grpc"] for probe in probes if "grpc" in probe]
    port = container(component)["ports"][0]["containerPort"]
    assert asked
    assert all(each == {"port": port, "service": SERVED[component]} for each in asked)
    for probe in probes:
        if "exec" in probe:
            program, *arguments = probe["exec"]["command"]
            # 2 would be wrong usage.
            assert (program, tandem([*arguments, "--target=unix:/nowhere", "--timeout=0.1"])) == ("tandem", 1)


@WORKLOAD
def test_an_unhealthy_service_is_not_restarted_while_it_answers(component):
    assert container(component)["livenessProbe"]["exec"]["command"] == ["tandem", "health", "--alive"]


@WORKLOAD
def test_a_pod_stops_before_it_is_killed(component):
    config = config_of(component)
    assert pod(component)["terminationGracePeriodSeconds"] > config.lame_duck_s + config.grace_s + 10


@WORKLOAD
def test_a_pod_keeps_to_the_restricted_profile(component):
    security = pod(component)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == images()[component]["USER"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(component)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@WORKLOAD
def test_what_is_mounted_is_declared(component):
    mounted = {each["name"] for each in container(component)["volumeMounts"]}
    assert mounted == {each["name"] for each in pod(component)["volumes"]}
    assert {"/tmp", "/var/cache/tandem"} <= {
        each["mountPath"] for each in container(component)["volumeMounts"]
    }


def test_the_autoscaler_has_its_workload_to_itself():
    [scaler] = of_kind("HorizontalPodAutoscaler")
    workload = WORKLOADS["tokenizer"]
    target = {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": workload["metadata"]["name"],
    }
    assert scaler["spec"]["scaleTargetRef"] == target
    assert "replicas" not in workload["spec"]
    assert "cpu" in container("tokenizer")["resources"]["requests"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the overlays")
@OVERLAY
def test_an_overlay_renders(overlay):
    path = ROOT / "deploy" / "kubernetes" / "overlays" / overlay
    rendered = subprocess.run(
        ["kubectl", "kustomize", path], capture_output=True, text=True, check=True, timeout=60
    )
    documents = list(yaml.safe_load_all(rendered.stdout))
    [engine] = [each for each in documents if each["kind"] == "StatefulSet"]
    [only] = engine["spec"]["template"]["spec"]["containers"]
    assert only["image"] == {"cpu": "tandem-engine-cpu", "gpu": "tandem-engine"}[overlay]
    assert only["resources"]["limits"].get("nvidia.com/gpu") == {"cpu": None, "gpu": 1}[overlay]
    [variables_map] = [each for each in documents if each["kind"] == "ConfigMap"]
    assert variables_map["data"] == variables(overlay)
    assert only["envFrom"] == [{"configMapRef": {"name": variables_map["metadata"]["name"]}}]
