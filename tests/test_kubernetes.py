"""The manifests in ops/kubernetes, as far as they can be checked without a cluster.

`make check-kubernetes` holds them against the schemas of Kubernetes.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from server.cli import app as cli
from server.config import PREFIX, READ_ELSEWHERE, Config, load

FOLDER = Path(__file__).resolve().parent.parent / "ops" / "kubernetes"
MANIFESTS: dict[str, Any] = {
    path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")
}
PODS = {name: MANIFESTS[name]["spec"]["template"] for name in ("deployment", "migrate")}
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Config.model_fields} | READ_ELSEWHERE
COMMANDS = {item.callback.__name__ for item in cli.registered_commands if item.callback}


def container(name: str) -> dict[str, Any]:
    """The one container of a pod."""
    (found,) = PODS[name]["spec"]["containers"]
    return dict(found)


def test_every_manifest_is_applied() -> None:
    listed = {Path(name).stem for name in MANIFESTS["kustomization"]["resources"]}
    assert listed == set(MANIFESTS) - {"kustomization"}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_the_least_rights(name: str) -> None:
    pod, one = PODS[name]["spec"], container(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(one["resources"]["requests"])
    written = {mount["mountPath"] for mount in one["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/data", "/tmp"}  # what the Dockerfile says the service writes to


@pytest.mark.parametrize("name", PODS)
def test_settings_and_commands_are_those_of_the_service(name: str) -> None:
    one = container(name)
    assert {item["name"] for item in one["env"]} <= SETTINGS
    assert one["args"][0] in COMMANDS
    # A service called "sizing" would otherwise bring variables that are no settings.
    assert PODS[name]["spec"]["enableServiceLinks"] is False
    secrets = [item for item in one["env"] if "DSN" in item["name"]]
    assert all("secretKeyRef" in item["valueFrom"] for item in secrets)


@pytest.mark.parametrize("name", PODS)
def test_the_image_is_the_one_that_is_named_once(name: str) -> None:
    (image,) = MANIFESTS["kustomization"]["images"]
    assert container(name)["image"] == image["name"]
    assert image["newTag"] != "latest"


def test_probes_ask_what_the_command_line_asks() -> None:
    one = container("deployment")
    for probe in ("startupProbe", "readinessProbe"):
        program, command = one[probe]["exec"]["command"]
        assert (program, command in COMMANDS) == ("sizing", True)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    variables = {item["name"]: item.get("value") for item in one["env"]}
    assert ports["grpc"] == load().listen_port
    assert variables["SIZING_ADDRESS"] == f"localhost:{ports['grpc']}"
    assert variables["SIZING_METRICS_PORT"] == str(ports["metrics"])
    assert one["livenessProbe"]["httpGet"]["port"] == "metrics"
    start_s = one["startupProbe"]["periodSeconds"] * one["startupProbe"]["failureThreshold"]
    assert start_s >= 300  # a cold start beside other work


def test_servers_are_replaced_without_one_fewer_and_have_time_to_drain() -> None:
    deployment = MANIFESTS["deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in deployment, "it would undo the autoscaler whenever it is applied"
    scaler = MANIFESTS["autoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == MANIFESTS["deployment"]["metadata"]["name"]
    assert scaler["minReplicas"] > MANIFESTS["disruption"]["spec"]["maxUnavailable"]
    grace_s = PODS["deployment"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s >= load().drain_s + 10


def test_everything_selects_the_same_pods() -> None:
    labels = PODS["deployment"]["metadata"]["labels"]
    chosen = [
        MANIFESTS["deployment"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["disruption"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["network"]["spec"]["podSelector"]["matchLabels"],
        MANIFESTS["service"]["spec"]["selector"],
    ]
    assert all(item == labels for item in chosen)
    assert PODS["migrate"]["metadata"]["labels"] != labels  # or it would be called
    assert MANIFESTS["service"]["spec"]["clusterIP"] == "None"
    allowed = {
        port["port"] for rule in MANIFESTS["network"]["spec"]["ingress"] for port in rule["ports"]
    }
    assert allowed == {port["containerPort"] for port in container("deployment")["ports"]}
