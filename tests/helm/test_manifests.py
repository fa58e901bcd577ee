"""Every ci values file: linted, rendered by Helm 3 and 4 for the oldest and newest Kubernetes, taken by a cluster."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import (
    CHART,
    CI_VALUES,
    NEWEST,
    OLDEST,
    Document,
    ci_values,
    load,
    name_of,
    of_kind,
    one,
    pod_specs,
    render,
    run,
    settings,
)
from tests.helm.manifests import errors_of, restricted

EVERY_SHAPE = pytest.mark.parametrize("values", CI_VALUES, ids=name_of)
# hostPath is what the profile is there to forbid; the values say so where one asks for it.
NOT_RESTRICTED = {"hostpath"}
# What Secrets and the like the values name without the chart making them.
BROUGHT = {"hub", "team-keys", "redis", "llm-tls", "models", "default"}


@EVERY_SHAPE
def test_lint(helm: Path, values: Path) -> None:
    done = run(helm, "lint", "--strict", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout + done.stderr


@EVERY_SHAPE
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_a_cluster_takes_it(helm: Path, kube_tools: Path, values: Path, version: str) -> None:
    words = ["template", "demo", str(CHART), "--values", str(values), "--kube-version", version, "--namespace", "llm"]
    done = run(helm, *words)
    assert done.returncode == 0, done.stderr
    documents = load(done.stdout)
    assert len(documents) >= 6
    assert [error for document in documents for error in errors_of(document, version)] == []


def test_a_fault_is_found(kube_tools: Path) -> None:
    """The checks above can fail: unknown field, kind without a schema, wrong quantity, wrong field of a CRD."""
    deployment = one(render(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    assert "comand" in " ".join(errors_of(deployment, NEWEST))
    assert "no schema" in " ".join(errors_of({"apiVersion": "apps/v1", "kind": "Deploymnt", "metadata": {}}, NEWEST))
    claim = one(render(ci_values("gpu")), "PersistentVolumeClaim")
    claim["spec"]["resources"]["requests"]["storage"] = "thirty"
    assert "thirty" in " ".join(errors_of(claim, NEWEST))
    service = one(render(ci_values("ray")), "RayService")
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParms"] = {}
    assert "rayStartParms" in " ".join(errors_of(service, NEWEST))


def test_kubernetes_that_is_too_old_is_refused(helm: Path) -> None:
    done = run(helm, "template", "demo", str(CHART), "--kube-version", "1.26")
    assert done.returncode != 0
    assert "1.27" in done.stderr


@EVERY_SHAPE
def test_pod_security_restricted(values: Path) -> None:
    found = [error for document in shape(values) for pod in pod_specs(document) for error in restricted(pod)]
    expected = ["volume weights is a hostPath"] if name_of(values) in NOT_RESTRICTED else []
    assert found == expected


@EVERY_SHAPE
def test_hardening(values: Path) -> None:
    """What the profile does not ask for: a root that cannot be written, no token, limits, no boundless volume."""
    documents = shape(values)
    scaled_by_ray = bool(ci_values(name_of(values)).get("autoscaling", {}).get("enabled")) and of_kind(
        documents, "RayService"
    )
    pods = [pod for document in documents for pod in pod_specs(document)]
    assert len(pods) in (2, 3)  # server or head and worker, and the test
    for pod in pods:
        assert pod["enableServiceLinks"] is False
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
        for volume in pod["volumes"]:
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), volume
    with_token = [pod for pod in pods if pod["automountServiceAccountToken"]]
    # Ray's autoscaler asks the API server for workers: the head of a cluster that it scales has a token.
    assert len(with_token) == (1 if scaled_by_ray else 0)


@EVERY_SHAPE
def test_everything_that_is_named_is_there(values: Path) -> None:
    documents = shape(values)
    made = {(document["kind"], document["metadata"]["name"]) for document in documents}
    missing = [
        f"{kind} {name}"
        for document in documents
        for kind, name in references(document)
        if (kind, name) not in made and name not in BROUGHT
    ]
    assert missing == []


def references(node: object) -> Iterator[tuple[str, str]]:
    """Kind and name of everything that a document names."""
    if isinstance(node, list):
        for child in node:
            yield from references(child)
    if not isinstance(node, dict):
        return
    for key, kind, field in (
        ("configMapRef", "ConfigMap", "name"),
        ("configMap", "ConfigMap", "name"),
        ("secret", "Secret", "secretName"),
        ("secretKeyRef", "Secret", "name"),
        ("credentials", "Secret", "name"),
        ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
    ):
        if isinstance(node.get(key), dict):
            yield kind, node[key][field]
    if "serviceAccountName" in node:
        yield "ServiceAccount", node["serviceAccountName"]
    if isinstance(node.get("scaleTargetRef"), dict):
        yield "Deployment", node["scaleTargetRef"]["name"]
    for child in node.values():
        yield from references(child)


@EVERY_SHAPE
def test_the_service_reaches_the_pods_and_routes_reach_the_service(values: Path) -> None:
    documents = shape(values)
    if of_kind(documents, "RayService"):
        spec = one(documents, "RayService")["spec"]
        service = spec["serveService"]
        pod = spec["rayClusterConfig"]["workerGroupSpecs"][0]["template"]
    else:
        service = one(documents, "Service")
        pod = one(documents, "Deployment")["spec"]["template"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = service["spec"]["ports"]
    (target,) = [item for item in pod["spec"]["containers"][0]["ports"] if item["name"] == port["targetPort"]]
    assert str(target["containerPort"]) == settings(documents)["XUANYUAN_PORT"]
    name = service["metadata"]["name"]
    backends = [
        (rule["backendRefs"][0]["name"], rule["backendRefs"][0]["port"])
        for route in of_kind(documents, "HTTPRoute")
        for rule in route["spec"]["rules"]
    ] + [
        (path["backend"]["service"]["name"], path["backend"]["service"]["port"]["number"])
        for ingress in of_kind(documents, "Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    assert set(backends) <= {(name, port["port"])}
    for policy in of_kind(documents, "NetworkPolicy"):
        if policy["metadata"]["name"].endswith("-test"):
            continue
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert policy["spec"]["ingress"][0]["ports"][0]["port"] == target["containerPort"]


def test_one_pod_for_both_modes() -> None:
    """The pod of the Deployment and that of Ray's worker differ in what starts it, and in nothing else."""
    standalone = one(render(), "Deployment")["spec"]["template"]["spec"]
    worker = one(render({"mode": "ray"}), "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"][
        "spec"
    ]
    for pod in (standalone, worker):
        for key in ("command", "args", "ports", "startupProbe", "readinessProbe", "livenessProbe"):
            pod["containers"][0].pop(key, None)
        for constraint in pod["topologySpreadConstraints"]:
            constraint.pop("matchLabelKeys", None)
    own = standalone["containers"][0]["env"]
    worker["containers"][0]["env"] = [item for item in worker["containers"][0]["env"] if item in own]
    assert worker == standalone


def test_network_policy() -> None:
    """Default: in only the API port, out only DNS. The hub is open while weights are fetched, and not afterwards."""
    policy = one(render(), "NetworkPolicy", "xuanyuan")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": 8000, "protocol": "TCP"}]}]
    assert open_ports(policy) == {53}
    gpu = ci_values("gpu")
    downloading = one(render(gpu), "NetworkPolicy", "xuanyuan")["spec"]
    assert open_ports(downloading) == {53, 80, 443}
    (hub,) = [
        rule["to"][0]["ipBlock"] for rule in downloading["egress"] if {"port": 443, "protocol": "TCP"} in rule["ports"]
    ]
    assert "169.254.0.0/16" in hub["except"]
    gpu["weights"]["download"] = False
    assert open_ports(one(render(gpu), "NetworkPolicy", "xuanyuan")["spec"]) == {53}
    assert open_ports(one(render(ci_values("keda")), "NetworkPolicy", "xuanyuan")["spec"]) == {53, 6380}
    assert of_kind(render({"networkPolicy": {"enabled": False}}), "NetworkPolicy") == []


def test_who_may_ask_and_who_may_scrape() -> None:
    """On a standalone server both are one port; Ray's metrics have one of their own, for which nobody needs a key."""
    team = {"namespaceSelector": {"matchLabels": {"team": "a"}}}
    prometheus = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    both = {"networkPolicy": {"from": [team], "metricsFrom": [prometheus]}}
    (api,) = one(render(both), "NetworkPolicy", "xuanyuan")["spec"]["ingress"]
    assert api["from"][:2] == [team, prometheus]
    api, metrics = one(render(both | {"mode": "ray"}), "NetworkPolicy", "xuanyuan")["spec"]["ingress"][:2]
    assert (api["ports"][0]["port"], metrics["ports"][0]["port"]) == (8000, 8080)
    assert api["from"][0] == team
    assert prometheus not in api["from"]
    assert metrics["from"] == [prometheus]
    scraped = {"mode": "ray", "networkPolicy": {"metricsFrom": [prometheus]}}
    api, metrics = one(render(scraped), "NetworkPolicy", "xuanyuan")["spec"]["ingress"][:2]
    assert ("from" in api, metrics["from"]) == (False, [prometheus])


def test_only_the_download_may_write_the_weights() -> None:
    pod = one(render(ci_values("gpu")), "Deployment")["spec"]["template"]["spec"]
    (weights,), (server,) = pod["initContainers"], pod["containers"]
    read_only = [
        [mount.get("readOnly", False) for mount in container["volumeMounts"] if mount["name"] == "weights"]
        for container in (weights, server)
    ]
    assert read_only == [[False], [True]]


def open_ports(policy: Document) -> set[int]:
    """The ports that pods may reach outside."""
    return {port["port"] for rule in policy["egress"] for port in rule.get("ports", [])}


def test_keys_are_made_hashed_and_mounted() -> None:
    """The server gets hashes alone, in the launcher's own form, of the keys in the other Secret."""
    from serving.keys import digest, parse_keys

    documents = render()
    plain = {
        key: base64.b64decode(text).decode() for key, text in one(documents, "Secret", "-api-keys")["data"].items()
    }
    file = base64.b64decode(one(documents, "Secret", "xuanyuan-keys")["data"]["keys.json"]).decode()
    keys = {key.name: key for key in parse_keys(file)}
    assert keys["default"].hash == digest(plain["api-key"])
    assert keys["default"].scopes == ("inference",)
    assert keys["metrics"].hash == digest(plain["metrics-key"])
    assert keys["metrics"].scopes == ("metrics",)
    assert all(len(secret) == 46 and secret not in file for secret in plain.values())
    assert settings(documents)["XUANYUAN_KEYS_FILE"] == "/etc/xuanyuan/keys/keys.json"
    mounted = [item for pod in pod_specs(one(documents, "Deployment")) for item in pod["volumes"] if "secret" in item]
    assert [item["secret"]["secretName"] for item in mounted] == ["demo-xuanyuan-keys"]


def test_a_rollout_where_no_gpu_is_free() -> None:
    documents = render(ci_values("gpu") | {"rollout": {"maxSurge": 0, "maxUnavailable": 1}})
    assert one(documents, "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_a_new_chart_alone_makes_no_new_pods() -> None:
    labels = one(render(ci_values("gpu")), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert "helm.sh/chart" not in labels


def test_rollouts_and_disruptions() -> None:
    documents = render(ci_values("gpu"))
    deployment = one(documents, "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = deployment["template"]["spec"]
    (server,) = pod["containers"]
    assert server["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    assert server["livenessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    before = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = sum(float(settings(documents)[f"XUANYUAN_DRAIN_{name}"]) for name in ("DELAY", "TIMEOUT"))
    assert pod["terminationGracePeriodSeconds"] > before + drain
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > float(settings(documents)["XUANYUAN_START_TIMEOUT"])
    assert one(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert {item["topologyKey"] for item in pod["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }


def test_gpus() -> None:
    pod = one(render(ci_values("gpu")), "Deployment")["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A800-SXM4-80GB"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (server,) = pod["containers"]
    assert server["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": 1}
    assert server["image"] == "xuanyuan:0.1.0-cuda"
    (weights,) = pod["initContainers"]
    # The download waits for no GPU of its own, and alone has the hub's token.
    assert "nvidia.com/gpu" not in weights["resources"]["limits"]
    assert [item["name"] for item in weights["env"] if "valueFrom" in item] == ["HF_TOKEN"]
    assert [item["name"] for item in server["env"] if "valueFrom" in item] == []
    mig = one(render(ci_values("mig")), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert mig["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == 1
    memory = [item["emptyDir"] for item in pod["volumes"] if item["name"] == "shared-memory"]
    assert memory == [{"medium": "Memory", "sizeLimit": "1Gi"}]


def test_ray() -> None:
    spec = one(render(ci_values("ray-gpu")), "RayService")["spec"]
    application = yaml.safe_load(spec["serveConfigV2"])["applications"][0]
    assert application["import_path"] == "serving.cluster:app"
    cluster = spec["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["authOptions"] == {"mode": "token"}
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"], group["rayStartParams"]["num-gpus"]) == (1, 4, "2")
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    # KubeRay writes the command itself, and keeps the old cluster until its answers are out.
    assert "command" not in head["containers"][0]
    assert spec["rayClusterDeletionDelaySeconds"] == group["template"]["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", ["ray", "ray-gpu"])
def test_rays_own_environment_is_what_the_launcher_says(name: str) -> None:
    """Every Ray process is started with what `xuanyuan ray-config` prints; the path of a program is found there."""
    from serving.config import load_config
    from serving.ray.environment import serve_environment
    from serving.ray.serve_config import FOLDER, serve_config

    documents = render(ci_values(name))
    config = load_config({}, settings(documents)).config
    expected = serve_environment(config, FOLDER)
    assert expected.pop("RAY_SERVE_HAPROXY_BINARY_PATH").endswith("/xuanyuan-haproxy")
    spec = one(documents, "RayService")["spec"]
    for pod in pod_specs(spec):
        given = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
        assert {key: given.get(key) for key in expected} == expected
        assert "xuanyuan-haproxy" in pod["containers"][0]["args"][0]
    deployed, printed = yaml.safe_load(spec["serveConfigV2"]), serve_config(config)
    printed["applications"][0].pop("runtime_env")  # the pods have it
    assert deployed == printed


def test_streaming_through_what_is_in_front() -> None:
    annotations = one(render(ci_values("ingress")), "Ingress")["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    assert annotations[prefix + "proxy-buffering"] == "off"
    assert annotations[prefix + "proxy-read-timeout"] == "86400"  # requestTimeout: 0
    assert annotations[prefix + "proxy-body-size"] == "8m"  # the user's own wins
    assert annotations["cert-manager.io/cluster-issuer"] == "internal"
    (rule,) = one(render(ci_values("httproute")), "HTTPRoute")["spec"]["rules"]
    assert rule["timeouts"] == {"request": "1830s", "backendRequest": "1830s"}


def test_alerts_and_dashboard_are_the_files() -> None:
    documents = render(ci_values("keda"))
    rules = yaml.safe_load((CHART / "alerts" / "rules.yaml").read_text(encoding="utf-8"))
    assert one(documents, "PrometheusRule")["spec"] == rules
    dashboard = one(documents, "ConfigMap", "-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["xuanyuan.json"]) == json.loads(
        (CHART / "dashboards/xuanyuan.json").read_text()
    )


def test_scraping_has_a_key() -> None:
    (endpoint,) = one(render(ci_values("keda")), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "demo-xuanyuan-api-keys", "key": "metrics-key"}
    (endpoint,) = one(render(ci_values("keys")), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "team-keys", "key": "prometheus"}
    anonymous = {"config": {"allowAnonymous": True}, "metrics": {"podMonitor": {"enabled": True}}}
    (endpoint,) = one(render(anonymous), "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert "authorization" not in endpoint


def test_scaling_asks_for_the_engines_own_metrics() -> None:
    triggers = one(render(ci_values("keda")), "ScaledObject")["spec"]["triggers"]
    queries = [trigger["metadata"]["query"] for trigger in triggers]
    assert "vllm:num_requests_waiting" in queries[0]
    assert "vllm:request_queue_time_seconds_bucket" in queries[1]
    assert [trigger["metadata"]["threshold"] for trigger in triggers] == ["4", "1.5"]
    metrics = one(render(ci_values("hpa")), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [item["pods"]["target"]["averageValue"] for item in metrics] == ["4", "250m"]
    assert "replicas" not in one(render(ci_values("keda")), "Deployment")["spec"]


def shape(values: Path) -> list[Document]:
    """What the chart renders with one ci values file."""
    return render(ci_values(name_of(values)))
