"""Values that cannot be right are refused before anything reaches a cluster, by both Helms, naming the value."""

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from tests.helm.chart import CHART, render, run

GPU = {"config": {"model": "XuanYuan-6B-Chat"}, "gpu": {"count": 1}}
# Values, and words of the message: the value's path, and what it is or should be.
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    # Misspelt or misplaced, at every level.
    ({"mod": "ray"}, ["mod"]),
    ({"replicaCount": 3}, ["replicaCount"]),
    ({"config": {"maxModelLength": 1024}}, ["/config", "maxModelLength"]),
    ({"config": {"max_model_len": 1024}}, ["/config", "max_model_len"]),
    ({"image": {"name": "x"}}, ["/image", "name"]),
    ({"probes": {"liveness": {"path": "/"}}}, ["/probes/liveness", "path"]),
    ({"ray": {"head": {"resources": {"limits": {"gpu": 1}}}}}, ["/ray/head/resources/limits", "gpu"]),
    ({"tolerations": [{"kee": "x"}]}, ["/tolerations/0", "kee"]),
    ({"affinity": {"nodeAffinty": {}}}, ["/affinity", "nodeAffinty"]),
    ({"httpRoute": {"parentRefs": [{"name": "x", "port": 1}]}}, ["/httpRoute/parentRefs/0", "port"]),
    ({"networkPolicy": {"from": [{"podSelektor": {}}]}}, ["/networkPolicy/from/0", "podSelektor"]),
    ({"global": {"x": 1}}, ["/global"]),
    # Of the wrong type: what YAML makes of a text without quotes.
    ({"config": {"maxModelLen": "1024"}}, ["/config/maxModelLen", "integer"]),
    ({"config": {"servedModelName": 1e3}}, ["/config/servedModelName", "string"]),
    ({"config": {"allowAnonymous": "yes"}}, ["/config/allowAnonymous", "boolean"]),
    ({"image": {"tag": 1.1}}, ["/image/tag", "string"]),
    ({"replicas": 1.5}, ["/replicas", "integer"]),
    ({"extraArgs": "--seed 7"}, ["/extraArgs", "array"]),
    ({"podLabels": {"team": 7}}, ["/podLabels/team", "string"]),
    ({"service": {"annotations": {"x": True}}}, ["/service/annotations/x", "string"]),
    # Taken away with null.
    ({"config": None}, ["config"]),
    ({"image": {"repository": None}}, ["/image", "repository"]),
    # Out of range, or not one of those there are.
    ({"mode": "Ray"}, ["/mode", "standalone"]),
    ({"replicas": 0}, ["/replicas", "1"]),
    ({"config": {"port": 70000}}, ["/config/port", "maximum"]),
    ({"config": {"port": 0}}, ["/config/port", "1"]),
    ({"config": {"gpuMemoryUtilization": 90}}, ["/config/gpuMemoryUtilization", "1"]),
    ({"config": {"maxBodyBytes": 0}}, ["/config/maxBodyBytes", "1"]),
    ({"config": {"drainTimeout": -1}}, ["/config/drainTimeout", "0"]),
    ({"config": {"kvCacheMemoryBytes": 2**60}}, ["/config/kvCacheMemoryBytes"]),
    ({"config": {"hub": "github"}}, ["/config/hub", "modelscope"]),
    ({"config": {"dtype": "fp16"}}, ["/config/dtype", "float16"]),
    ({"config": {"logFormat": "xml"}}, ["/config/logFormat", "json"]),
    ({"image": {"pullPolicy": "Allways"}}, ["/image/pullPolicy", "Always"]),
    ({"image": {"repository": "Registry/Image"}}, ["/image/repository"]),
    ({"image": {"digest": "sha256:abc"}}, ["/image/digest"]),
    ({"image": {"tag": '"'}}, ["/image/tag"]),
    ({"fullnameOverride": "Has_Capitals"}, ["/fullnameOverride"]),
    ({"fullnameOverride": "x" * 64}, ["/fullnameOverride"]),
    ({"weights": {"volume": "nfs"}}, ["/weights/volume", "hostPath"]),
    ({"weights": {"size": "30GB"}}, ["/weights/size"]),
    ({"weights": {"hostPath": "models"}}, ["/weights/hostPath"]),
    ({"resources": {"requests": {"cpu": "two"}}}, ["/resources/requests/cpu"]),
    ({"resources": {"requests": {"cpu": 0}}}, ["/resources/requests/cpu"]),
    ({"resources": {"limits": {"memory": "4 Gi"}}}, ["/resources/limits/memory"]),
    ({"gpu": {"count": -1}}, ["/gpu/count", "0"]),
    ({"gpu": {"resourceName": "gpu"}}, ["/gpu/resourceName"]),
    ({"service": {"type": "ExternalName"}}, ["/service/type", "ClusterIP"]),
    ({"autoscaling": {"kind": "vpa"}}, ["/autoscaling/kind", "keda"]),
    ({"autoscaling": {"queueSeconds": 0}}, ["/autoscaling/queueSeconds"]),
    ({"ingress": {"hosts": ["http://llm.example.com"]}}, ["/ingress/hosts/0"]),
    ({"security": {"runAsUser": "root"}}, ["/security/runAsUser", "integer"]),
    # Fine alone, wrong together.
    (
        {"termination": {"gracePeriodSeconds": 55}},
        ["values.termination.gracePeriodSeconds", "config.drainTimeout", "= 55", "got 55"],
    ),
    ({"config": {"drainTimeout": 300}}, ["values.termination.gracePeriodSeconds", "325", "got 60"]),
    ({"termination": {"preStopSeconds": 30}}, ["values.termination.gracePeriodSeconds", "80", "got 60"]),
    ({"rollout": {"progressDeadlineSeconds": 600}}, ["values.rollout.progressDeadlineSeconds", "1800", "got 600"]),
    ({"rollout": {"maxSurge": 0}}, ["values.rollout.maxSurge", "maxUnavailable", "got 0"]),
    ({"config": {"device": "cuda"}}, ["values.gpu.count", "cuda", "got 0"]),
    (GPU | {"config": GPU["config"] | {"device": "cpu"}}, ["values.gpu.count", "cpu", "got 1"]),
    ({"gpu": {"count": 1}}, ["values.config.model", "demo"]),
    (
        {"gpu": {"count": 2}, "config": GPU["config"] | {"tensorParallelSize": 4, "pipelineParallelSize": 1}},
        ["values.gpu.count", "= 4", "got 2"],
    ),
    (
        {"resources": {"requests": {"memory": "8Gi"}}},
        ["values.resources.requests.memory", "limits.memory = 4Gi", "got 8Gi"],
    ),
    ({"resources": {"requests": {"cpu": "2500m"}}}, ["values.resources.requests.cpu", "= 2", "got 2500m"]),
    (
        {"ray": {"head": {"resources": {"limits": {"memory": "1Gi"}}}}},
        ["values.ray.head.resources.requests.memory", "got 4Gi"],
    ),
    (GPU | {"weights": {"volume": "existingClaim"}}, ["values.weights.existingClaim"]),
    (GPU | {"weights": {"existingClaim": "models"}}, ["values.weights.existingClaim", "models", "emptyDir"]),
    (GPU | {"weights": {"volume": "hostPath"}}, ["values.weights.hostPath"]),
    (GPU | {"weights": {"hostPath": "/srv"}}, ["values.weights.hostPath", "/srv"]),
    (GPU | {"weights": {"download": False}}, ["values.weights.volume", "emptyDir", "weights.download is false"]),
    (
        GPU | {"weights": {"volume": "claim", "accessMode": "ReadWriteOnce"}},
        ["values.weights.accessMode", "ReadWriteMany", "ReadWriteOnce"],
    ),
    (
        {"config": {"model": "/models/x"}, "weights": {"volume": "claim"}},
        ["values.config.model", "/weights/", "/models/x"],
    ),
    ({"config": {"model": "a b"}}, ["values.config.model", "a b"]),
    (
        {"config": {"allowAnonymous": True}, "keys": {"existingSecret": "k"}},
        ["values.config.allowAnonymous", "keys.existingSecret"],
    ),
    (
        {"keys": {"existingSecret": "k"}, "metrics": {"serviceMonitor": {"enabled": True}}},
        ["values.metrics.keySecret.name", "scope metrics"],
    ),
    ({"extraEnv": [{"name": "XUANYUAN_PORT", "value": "1"}]}, ["values.extraEnv", "XUANYUAN_PORT"]),
    ({"extraEnv": [{"name": "HF_TOKEN", "value": "x"}]}, ["values.extraEnv", "HF_TOKEN"]),
    ({"mode": "ray", "extraEnv": [{"name": "RAY_x", "value": "1"}]}, ["values.extraEnv", "RAY_x", "ray"]),
    ({"extraEnv": [{"name": "A"}, {"name": "A"}]}, ["values.extraEnv", "A twice"]),
    ({"extraEnv": [{"name": "A B"}]}, ["values.extraEnv", "A B"]),
    ({"extraArgs": ["--port=1"]}, ["values.extraArgs", "--port"]),
    ({"extraArgs": ["--api_server_count", "2"]}, ["values.extraArgs", "--api-server-count"]),
    ({"mode": "ray", "extraArgs": ["--seed", "7"]}, ["values.extraArgs", "ray", "--seed"]),
    ({"podLabels": {"app.kubernetes.io/name": "x"}}, ["values.podLabels", "app.kubernetes.io/name"]),
    ({"podLabels": {"a b": "x"}}, ["values.podLabels", "a b"]),
    ({"httpRoute": {"enabled": True}}, ["values.httpRoute.parentRefs", "got []"]),
    ({"ingress": {"tlsSecret": "tls"}}, ["values.ingress.hosts", "tls"]),
    (
        {"mode": "ray", "metrics": {"serviceMonitor": {"enabled": True}}},
        ["values.metrics.serviceMonitor.enabled", "podMonitor"],
    ),
    (
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        ["values.metrics.podMonitor.enabled", "twice"],
    ),
    ({"mode": "ray", "config": {"port": 8265}}, ["values.config.port", "8265"]),
    ({"autoscaling": {"minReplicas": 5}}, ["values.autoscaling.maxReplicas", "= 5", "got 4"]),
    (
        {"replicas": 2, "config": {"tokensPerMinute": 1000}},
        ["values.config.rateLimitStorage", "redis://", "memory://"],
    ),
]


def test_there_are_many() -> None:
    assert len(REFUSED) >= 40


@pytest.mark.parametrize(
    ("values", "says"),
    REFUSED,
    ids=[yaml.safe_dump(values, default_flow_style=True)[:60].strip() for values, _ in REFUSED],
)
def test_refused(values: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(helm_python.HelmError) as refusal:
        render(values)
    message = str(refusal.value)
    assert [word for word in says if word not in message] == [], message


@pytest.mark.parametrize("index", range(0, len(REFUSED), 9))
def test_refused_by_both_programs(helm: Path, tmp_path: Path, index: int) -> None:
    """The same from the command line. Helm 3 writes config.port where Helm 4 writes /config/port."""
    values, says = REFUSED[index]
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = run(helm, "template", "demo", str(CHART), "--values", str(file))
    assert done.returncode != 0
    message = done.stderr.replace("/", ".")
    assert [word for word in says if word.replace("/", ".").removeprefix(".") not in message] == [], done.stderr
    assert done.stdout == ""


def test_none_of_this_keeps_what_is_right_out() -> None:
    """The neighbours of what is refused."""
    for values in (
        {"termination": {"gracePeriodSeconds": 56}},
        {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": ""}}},
        {"resources": {"requests": {"memory": "4096Mi"}}},
        {"config": {"port": 8265}},
        {"replicas": 2, "config": {"tokensPerMinute": 1000, "rateLimitStorage": "redis://r:6379"}},
        GPU | {"weights": {"volume": "hostPath", "hostPath": "/srv/模型"}},
    ):
        assert render(values)
