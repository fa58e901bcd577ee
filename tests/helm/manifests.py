"""Whether a cluster would take a document: Kubernetes' own schemas, the CRDs', and what neither says."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
from kubernetes_validate.utils import all_versions, schema_contents
from referencing import Registry, Resource

from tests.helm.chart import CRDS, Document


def errors_of(document: Document, version: str) -> list[str]:
    """Why a server of this version would refuse the document; a kind without a schema is refused too."""
    from crd_check import check_document, is_built_in
    from emulation.admission import admission_errors

    title = f"{document.get('kind')}/{document.get('metadata', {}).get('name')}"
    found = list(schema_errors(document, version)) if is_built_in(document) else check_document(document, crds())
    found += [] if found else admission_errors(document)
    return [f"{title}: {error}" for error in found]


@functools.cache
def crds() -> Any:
    """The custom resources that are known, read once."""
    from crd_check import load_crds

    return load_crds(CRDS)


def schema_errors(document: Document, version: str) -> Iterator[str]:
    """What Kubernetes' strict schema says."""
    validator = builtin(document["kind"], document["apiVersion"], version)
    if validator is None:
        yield f"no schema for {document['apiVersion']} {document['kind']} in {version}"
        return
    for error in validator.iter_errors(document):
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


@functools.cache
def builtin(kind: str, api_version: str, version: str) -> Any:
    """The strict validator of a built-in kind; None where there is none."""
    group, slash, name = api_version.rpartition("/")
    prefix = f"{group.partition('.')[0]}-" if slash else ""
    folder = f"kubernetes-json-schema/v{full(version)}-local-strict"
    try:
        schema = schema_contents(f"{folder}/{kind.lower()}-{prefix}{name}.json", version)
    except FileNotFoundError:
        return None
    return jsonschema.Draft202012Validator(schema, registry=definitions(folder, version))


@functools.cache
def definitions(folder: str, version: str) -> Registry[Any]:
    """What the schemas of one version share, read once."""
    shared = Resource.from_contents(schema_contents(f"{folder}/_definitions.json", version))
    return shared @ Registry()


def full(version: str) -> str:
    """ "1.27.16" of "1.27". A version without schemas is an error, not the nearest one."""
    (found,) = {known for known in all_versions() if known.rpartition(".")[0] == version}
    return found


def restricted(pod: Document) -> Iterator[str]:
    """What Pod Security's profile "restricted" (Kubernetes 1.27 to 1.37) refuses in a pod spec."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is set"
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod.get("volumes", []):
        for source in set(volume) - {"name"} - allowed:
            yield f"volume {volume['name']} is a {source}"
    whole = pod.get("securityContext", {})
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        for error in container_errors(container.get("securityContext", {}), whole):
            yield f"container {container['name']}: {error}"
        for port in container.get("ports", []):
            if port.get("hostPort"):
                yield f"container {container['name']}: hostPort {port['hostPort']}"


def container_errors(own: Document, pod: Document) -> Iterator[str]:
    """The same for one container, with what the pod says for all."""
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in capabilities.get("drop", []):
        yield "not all capabilities are dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"capabilities {capabilities['add']}"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if 0 in (own.get("runAsUser"), pod.get("runAsUser")):
        yield "runs as root"
    if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccomp profile"


def same(first: Document, second: Document) -> bool:
    """Whether two documents are equal but for what is random."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
