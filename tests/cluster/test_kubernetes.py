"""What stands in ``cluster/`` for Kubernetes is valid, bounded and closed to the world."""

import copy
import os
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.cluster.files import TEXTS, documents, options_of_ray, rayjob


def pod_templates():
    spec = rayjob()["spec"]
    cluster = spec["rayClusterSpec"]
    return {
        "submitter": spec["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
    }


def test_the_job_has_a_head_without_cells_and_workers_that_come_and_go():
    job = rayjob()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] > 0
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    (workers,) = cluster["workerGroupSpecs"]
    assert 0 == workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    assert workers["groupName"]
    start = options_of_ray("start")
    groups = [cluster["headGroupSpec"], workers]
    assert all(f"--{name}" in start for group in groups for name in group["rayStartParams"])


def test_all_pods_run_one_image_without_root_and_within_limits():
    images = set()
    for name, template in pod_templates().items():
        (container,) = template["spec"]["containers"]
        images.add(container["image"])
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}
        if name != "submitter":
            assert template["spec"]["securityContext"]["runAsNonRoot"] is True
            assert container["resources"]["limits"] == container["resources"]["requests"]
    (results,) = documents("kuberay-results.yaml")
    assert images == {results["spec"]["containers"][0]["image"]}


def test_head_and_workers_write_into_the_claim_that_many_pods_can_mount():
    (claim,) = (
        one for one in documents("kuberay-rayjob.yaml") if one["kind"] == "PersistentVolumeClaim"
    )
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    entrypoint = shlex.split(rayjob()["spec"]["entrypoint"])
    output = entrypoint[entrypoint.index("--output") + 1]
    (results,) = documents("kuberay-results.yaml")
    templates = pod_templates()
    del templates["submitter"]
    for pod in [*templates.values(), results]:
        (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
        (volume,) = pod["spec"]["volumes"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], output)
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_ray_asks_for_a_token_and_the_wandb_key_comes_from_a_secret_to_the_head_alone():
    assert rayjob()["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    env = {
        name: template["spec"]["containers"][0].get("env", [])
        for name, template in pod_templates().items()
    }
    (key,) = env.pop("head")
    assert key["name"] == "WANDB_API_KEY"
    assert set(key) == {"name", "valueFrom"}
    assert key["valueFrom"]["secretKeyRef"]["optional"] is True
    assert set(map(str, env.values())) == {"[]"}


def test_nothing_of_the_job_is_reachable_from_outside_the_cluster():
    text = TEXTS["kuberay-rayjob.yaml"] + TEXTS["kuberay-results.yaml"]
    for opening in ("LoadBalancer", "NodePort", "hostPort", "hostNetwork", "ngress:\n  en"):
        assert opening not in text
    cluster = rayjob()["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "enableIngress" not in cluster["headGroupSpec"]


def test_the_network_policy_covers_every_pod_and_lets_in_only_them_and_the_operator():
    (policy,) = (one for one in documents("kuberay-rayjob.yaml") if one["kind"] == "NetworkPolicy")
    label = policy["spec"]["podSelector"]["matchLabels"]
    assert label
    for template in pod_templates().values():
        assert template["metadata"]["labels"].items() >= label.items()
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    own, operator = policy["spec"]["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": label}}]}
    (source,) = operator["from"]
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    assert [port["port"] for port in operator["ports"]] == [8265]


def test_the_objects_of_kubernetes_itself_are_valid():
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **template} for template in pod_templates().values()
    ]
    objects = [*documents("kuberay-rayjob.yaml"), *documents("kuberay-results.yaml"), *pods]
    for one in objects:
        if one["kind"] != "RayJob":
            validator.validate(one, "1.32", strict=True)


@pytest.mark.skipif("KUBERAY_CRD" not in os.environ, reason="KUBERAY_CRD names no CRD of RayJob")
def test_the_job_is_valid_by_the_resource_definition_of_kuberay():
    definition = yaml.load(Path(os.environ["KUBERAY_CRD"]).read_text(), Loader=yaml.CSafeLoader)
    (version,) = (one for one in definition["spec"]["versions"] if one["name"] == "v1")
    schema = _closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(rayjob(), schema)
    misspelt = copy.deepcopy(rayjob())
    misspelt["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(misspelt, schema)


def _closed(schema):
    """A schema that refuses unknown keys, as ``kubectl`` does and the definition alone does not."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = {key: _closed(value) for key, value in schema.items()}
    if (
        schema.get("type") == "object"
        and "properties" in schema
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        closed["additionalProperties"] = False
    return closed
