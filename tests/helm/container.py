"""A container of a rendered pod as a process here: its command, its environment, its mounts as folders.

Where a mount has an absolute path in the container (/weights), that path is replaced by the folder's in the environment
and in the arguments. Nothing else is changed: what runs is what the chart says.
"""

import base64
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.helm.chart import Document, of_kind, one

# What a container has of its image, here of this environment.
IMAGE = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Container:
    """What starts a process: argv, environment, and the container's mount points as folders here."""

    argv: list[str]
    env: dict[str, str]
    folders: Mapping[str, Path] = field(default_factory=dict)


def container(documents: list[Document], folder: Path, *, init: bool = False) -> Container:
    """The server's container (or its init container), of the Deployment or of a Ray worker."""
    return from_pod(documents, server_pod(documents), folder, init=init)


def server_pod(documents: list[Document]) -> Document:
    """The pod spec in which the model runs."""
    if of_kind(documents, "RayService"):
        groups = one(documents, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        return groups[0]["template"]["spec"]
    return one(documents, "Deployment")["spec"]["template"]["spec"]


def from_pod(documents: list[Document], pod: Document, folder: Path, *, init: bool = False) -> Container:
    """A container of any pod of the chart. Volumes of Secrets and ConfigMaps hold what those hold."""
    (spec,) = pod["initContainers" if init else "containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    folders = {}
    for mount in spec["volumeMounts"]:
        place = folder / mount["name"]
        fill(place, volumes[mount["name"]], documents)
        folders[mount["mountPath"]] = place
    # /tmp is this machine's own; the others only exist in a container.
    moved = {path: place for path, place in folders.items() if path not in ("/tmp", "/dev/shm")}
    env = IMAGE | {name: here(text, moved) for name, text in environment(spec, documents).items()}
    argv = [here(word, moved) for word in [*spec.get("command", []), *spec.get("args", [])]]
    return Container(argv, env, folders)


def environment(spec: Document, documents: list[Document]) -> dict[str, str]:
    """The variables of a container: whole ConfigMaps first, then those it names, as kubelet does it."""
    found: dict[str, str] = {}
    for source in spec.get("envFrom", []):
        found |= data(documents, "ConfigMap", source["configMapRef"]["name"])
    for item in spec.get("env", []):
        origin = item.get("valueFrom", {})
        if "secretKeyRef" in origin:
            found[item["name"]] = data(documents, "Secret", origin["secretKeyRef"]["name"])[
                origin["secretKeyRef"]["key"]
            ]
        elif origin:
            found[item["name"]] = "from the pod"
        else:
            found[item["name"]] = item.get("value", "")
    return found


def data(documents: list[Document], kind: str, name: str) -> dict[str, str]:
    """What a ConfigMap or Secret holds, as text."""
    (found,) = [item for item in of_kind(documents, kind) if item["metadata"]["name"] == name]
    content = found.get("data", {})
    return {key: base64.b64decode(text).decode() for key, text in content.items()} if kind == "Secret" else content


def fill(place: Path, volume: Document, documents: list[Document]) -> None:
    """Make a volume's folder, with the files that a Secret or ConfigMap brings."""
    place.mkdir(parents=True, exist_ok=True)
    if "secret" in volume:
        content = data(documents, "Secret", volume["secret"]["secretName"])
        for item in volume["secret"]["items"]:
            (place / item["path"]).write_text(content[item["key"]], encoding="utf-8")
    if "configMap" in volume:
        for key, text in data(documents, "ConfigMap", volume["configMap"]["name"]).items():
            (place / key).write_text(text, encoding="utf-8")


def here(text: str, folders: Mapping[str, Path]) -> str:
    """A text in which mount points at the beginning of a path are the folders here."""
    for path, place in folders.items():
        if text == path or text.startswith(path + "/"):
            return str(place) + text.removeprefix(path)
    return text
