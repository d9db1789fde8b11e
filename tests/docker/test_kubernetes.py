"""The manifests fit Kubernetes' own schemas, run nothing as root, and name only settings that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import auditsvc
from auditsvc.settings import Settings

DOCKER = Path(auditsvc.__file__).parent.parent / "docker"
if not DOCKER.is_dir():
    pytest.skip("the manifests lie in the checkout, not in the installed package", allow_module_level=True)
FILES = sorted((DOCKER / "kubernetes").glob("*.yaml"))
OBJECTS = [(path.name, one) for path in FILES for one in yaml.safe_load_all(path.read_text())]
IDS = [f"{name}:{one['kind']}/{one['metadata']['name']}" for name, one in OBJECTS]


def _pods() -> list[dict[str, Any]]:
    found = [one["spec"]["template"]["spec"] for _, one in OBJECTS if one["kind"] == "Deployment"]
    return found + [one["spec"]["predictor"] for _, one in OBJECTS if one["kind"] == "InferenceService"]


def _containers() -> list[dict[str, Any]]:
    return [one for pod in _pods() for one in (*pod.get("initContainers", ()), *pod["containers"])]


@pytest.mark.parametrize(("name", "one"), OBJECTS, ids=IDS)
def test_every_object_fits_the_schema_of_kubernetes(name: str, one: dict[str, Any]) -> None:
    lint = pytest.importorskip("kubernetes_validate")
    if one["kind"] == "InferenceService":
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": one["metadata"], "spec": one["spec"]["predictor"]}
        lint.validate(pod, "1.33", strict=True)  # KServe's own schema is not at hand; its predictor is a pod's spec
    else:
        lint.validate(one, "1.33", strict=True)


def test_no_container_may_more_than_it_must() -> None:
    for pod in _pods():
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    for one in _containers():
        locked = one["securityContext"]
        assert (locked["allowPrivilegeEscalation"], locked["readOnlyRootFilesystem"]) == (False, True), one["name"]
        assert locked["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in one["resources"]["limits"]
        assert not one["image"].endswith(":latest")


def test_mounts_selectors_and_references_meet() -> None:
    for pod in _pods():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for one in (*pod.get("initContainers", ()), *pod["containers"]):
            assert {mount["name"] for mount in one.get("volumeMounts", ())} <= volumes
    for _, one in OBJECTS:
        if one["kind"] == "Deployment":
            wanted = one["spec"]["selector"]["matchLabels"].items()
            assert wanted <= one["spec"]["template"]["metadata"]["labels"].items()
    labels = [one["spec"]["template"]["metadata"]["labels"] for _, one in OBJECTS if one["kind"] == "Deployment"]
    for _, one in OBJECTS:
        if one["kind"] == "Service":
            assert sum(one["spec"]["selector"].items() <= found.items() for found in labels) == 1


def test_only_the_signer_has_keys_and_it_runs_as_another_user() -> None:
    for pod in _pods():
        with_keys = [one for one in pod["containers"] if "auditsvc-keys" in str(one.get("envFrom"))]
        mounting = [one for one in pod["containers"] if "/store/keys" in str(one.get("volumeMounts"))]
        assert [one["name"] for one in with_keys] == [one["name"] for one in mounting]
        assert {one["name"] for one in with_keys} <= {"signer"}
        for one in with_keys:
            assert one["securityContext"]["runAsUser"] != pod["securityContext"]["runAsUser"]
    assert sum(one["name"] == "signer" for one in _containers()) == 2


def test_only_settings_that_there_are_are_set() -> None:
    known = {name.upper() for name in Settings.model_fields}
    text = "\n".join(path.read_text() for path in FILES)
    assert set(re.findall(r"AUDITSVC_([A-Z_]+)", text)) - {"URL", "TOKEN"} <= known


def test_a_model_server_starts_only_behind_the_verifier() -> None:
    guarded = [pod for pod in _pods() if "initContainers" in pod]
    assert len(guarded) == 2
    for pod in guarded:
        fetch, verify = pod["initContainers"]
        assert (fetch["name"], verify["image"].partition(":")[0]) == ("fetch", "auditsvc-verifier")
        assert verify["args"][:2] == ["/mnt/models", "--key"]
        for one in (verify, *pod["containers"]):
            assert all(mount.get("readOnly") for mount in one["volumeMounts"]), "what was verified can't be changed"
