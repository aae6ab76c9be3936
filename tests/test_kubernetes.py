"""examples/kubernetes: manifests against each other, our settings and Kubernetes' own schema."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ffengine.version import VERSION
from service.settings import Settings
from tests.needs import program

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/kubernetes"
PAGE = (ROOT / "docs/howto/kubernetes.md").read_text()
FILES = sorted(FOLDER.glob("*.yaml"))
LIST = FOLDER / "kustomization.yaml"
MANIFESTS: list[dict[str, Any]] = [
    manifest for path in FILES if path != LIST for manifest in yaml.safe_load_all(path.read_text())
]
PODS = {
    manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]
    for manifest in MANIFESTS
    if "template" in manifest.get("spec", {})
}
OURS = [name for name in PODS if name.startswith("fflab")]
# of PostgreSQL, Valkey and the bucket
OF_OTHERS = {"POSTGRES_PASSWORD", "VALKEY_PASSWORD", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"}
OF_OTHERS |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = (manifest for manifest in MANIFESTS if manifest["kind"] == kind)
    return found


def secret() -> set[str]:
    """The names in the secret that the documentation makes."""
    return set(re.findall(r"--from-literal=(\w+)=", PAGE))


def test_the_list_names_every_file() -> None:
    listed = yaml.safe_load(LIST.read_text())["resources"]
    assert sorted(listed) == [path.name for path in FILES if path != LIST]


def test_images_are_pinned_and_ours_by_the_version() -> None:
    ours = {one["name"]: one["newTag"] for one in yaml.safe_load(LIST.read_text())["images"]}
    assert ours == {"fflab": VERSION, "fflab-cuda": f"{VERSION}-cuda"}
    for pod in PODS.values():
        for container in pod["containers"]:
            assert container["image"] in ours or re.search(r":\d+\.\d+", container["image"])


@pytest.mark.parametrize("name", PODS)
def test_pods_have_no_privileges_and_a_limit_of_memory(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert container["readinessProbe"]


@pytest.mark.parametrize("name", OURS)
def test_our_pods_run_as_the_user_of_the_image(name: str) -> None:
    user = re.search(r"--uid (\d+) fflab", (ROOT / "Dockerfile").read_text())
    assert user
    assert PODS[name]["securityContext"]["runAsUser"] == int(user[1])
    (container,) = PODS[name]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [one.popitem()[1]["name"] for one in container["envFrom"]] == ["fflab", "fflab"]


def test_settings_are_ours_and_secrets_have_no_value_in_a_file() -> None:
    given = set(of_kind("ConfigMap")["data"]) | secret()
    known = {f"FFLAB_{name.upper()}" for name in Settings.model_fields}
    assert given - known <= OF_OTHERS
    assert {"FFLAB_DATABASE_URL", "FFLAB_REDIS_URL", "POSTGRES_PASSWORD"} <= secret()
    asked = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for pod in PODS.values()
        for container in pod["containers"]
        for variable in container.get("env", [])
        if "valueFrom" in variable
    }
    assert asked <= secret()
    assert not any(manifest["kind"] == "Secret" for manifest in MANIFESTS)


def test_services_choose_pods_that_are_there() -> None:
    labels = [
        manifest["spec"]["template"]["metadata"]["labels"]
        for manifest in MANIFESTS
        if "template" in manifest.get("spec", {})
    ]
    chosen = [one["spec"]["selector"] for one in MANIFESTS if one["kind"] == "Service"]
    assert len(chosen) == 3
    assert all(selector in labels for selector in chosen)


def test_workers_are_counted_by_a_metric_that_the_documentation_makes() -> None:
    scaling = of_kind("HorizontalPodAutoscaler")["spec"]
    assert scaling["scaleTargetRef"]["name"] in PODS
    (metric,) = scaling["metrics"]
    blocks = re.findall(r"```yaml[^\n]*\n(.*?)```", PAGE, re.DOTALL)
    rules = next(yaml.safe_load(block) for block in blocks if "externalRules" in block)
    (rule,) = rules["externalRules"]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    assert "fflab_jobs" in rule["metricsQuery"]


def test_a_stopped_worker_has_the_time_that_it_takes() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["worker"]
    least = int(compose["stop_grace_period"].removesuffix("s"))
    assert all(
        PODS[name]["terminationGracePeriodSeconds"] >= least for name in OURS if "worker" in name
    )


@pytest.mark.soak
def test_kubernetes_own_schema_finds_nothing() -> None:
    files = [str(path) for path in FILES if path != LIST]
    found = subprocess.run(
        [program("bin/kubernetes-validate"), "--strict", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert (found.stdout + found.stderr).count(" passed for ") == len(MANIFESTS)
