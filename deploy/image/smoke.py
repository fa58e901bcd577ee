"""Builds the cpu image without a registry of images, runs it as a container, and asks it something.

    sudo python3 deploy/image/smoke.py FOLDER [--volume HOST:CONTAINER:ro …]

Needs root, Debian's mmdebstrap, buildah and runc, and 25 GB in FOLDER. mmdebstrap makes the Debian 12 that the image
stands on; runc runs it with a read-only root, no capability and nothing to write to but /tmp, /cache and /dev/shm.
`--volume` shows a folder of this machine to the build, such as pip's settings. What FOLDER holds is built upon.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BASE, IMAGE = "localhost/debian:12", "localhost/xuanyuan:cpu"
PORT = 18790
URL = f"http://127.0.0.1:{PORT}"
WRITABLE = ("/tmp", "/cache")


def buildah(folder: Path, *words: str, quiet: bool = True) -> str:
    """Run buildah on a store of its own in the folder. Raises CalledProcessError."""
    where = ["--root", f"{folder}/store", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    done = subprocess.run(["buildah", *where, *words], check=True, text=True, stdout=subprocess.PIPE if quiet else None)
    return (done.stdout or "").strip()


def has(folder: Path, image: str) -> bool:
    """Whether an image is in the store already."""
    listed = buildah(folder, "images", "--format", "{{.Name}} {{.Tag}}").splitlines()
    # It lines its columns up with blanks.
    return image.rsplit(":", 1) in [line.split() for line in listed]


def make_base(folder: Path) -> None:
    """A minimal Debian 12 as an image."""
    archive = folder / "base.tar"
    if not archive.exists():
        subprocess.run(["mmdebstrap", "--variant=minbase", "bookworm", str(archive)], check=True)
    container = buildah(folder, "from", "scratch")
    buildah(folder, "add", "-q", container, str(archive), "/")
    buildah(folder, "commit", "-q", "--rm", container, BASE)


def build(folder: Path, volumes: Sequence[str]) -> None:
    """The cpu target, on that Debian. The docker format, for the other has no health check."""
    shown = [word for volume in volumes for word in ("-v", volume)]
    how = ["--isolation", "chroot", "--pull=never", "--format", "docker", "--layers=false", "--target", "cpu"]
    buildah(folder, "bud", *how, "--build-arg", f"BASE={BASE}", *shown, "-t", IMAGE, str(ROOT), quiet=False)


def unpack(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The image's root folder and what it says of itself."""
    container = buildah(folder, "from", "--pull-never", IMAGE)
    config = json.loads(buildah(folder, "inspect", "--type", "image", IMAGE))["Docker"]["config"]
    return Path(buildah(folder, "mount", container)), config


def bundle(folder: Path, root: Path, config: dict[str, Any], args: Sequence[str], env: Sequence[str]) -> Path:
    """An OCI bundle that runs the image's entry point as hardened as the deployments do."""
    place = folder / "bundle"
    place.mkdir(exist_ok=True)
    (place / "config.json").unlink(missing_ok=True)
    subprocess.run(["runc", "spec"], cwd=place, check=True)
    spec = json.loads((place / "config.json").read_text())
    user, group = map(int, config["User"].split(":"))
    spec["root"] = {"path": str(root), "readonly": True}
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": user, "gid": group},
        "args": [*config["Entrypoint"], *args],
        "env": [*config["Env"], *env],
        "cwd": config["WorkingDir"],
        "capabilities": {kind: [] for kind in spec["process"]["capabilities"]},
        "noNewPrivileges": True,
        "rlimits": [],
    }
    for path in WRITABLE:
        # runc gives the mount the mode of the image's folder, so that its owner has to be the image's as well.
        options = ["nosuid", "nodev", "mode=1777", f"uid={user}", f"gid={group}"]
        spec["mounts"].append({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options})
    for mount in spec["mounts"]:
        if mount["destination"] == "/dev/shm":
            mount["options"] = ["nosuid", "noexec", "nodev", "mode=1777", "size=2g"]
    # The machine's own network, so that the test reaches the port.
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "network"]
    (place / "config.json").write_text(json.dumps(spec))
    return place


@contextmanager
def container(name: str, place: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A running container, gone after the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(["runc", "run", name], cwd=place, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        subprocess.run(["runc", "delete", "--force", name], stderr=subprocess.DEVNULL)
        process.wait(30)


def ask(path: str, body: object = None) -> Any:
    """One request to the container. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else {}


def wait_ready(process: "subprocess.Popen[bytes]", log: Path, seconds: float = 300) -> None:
    """Until /ready says so. Raises SystemExit with what the container printed."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError):
            ask("/ready")
            return
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"not ready:\n{log.read_text()}")
        time.sleep(1)


def inside(name: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command in the running container, with its own environment."""
    return subprocess.run(["runc", "exec", name, *words], capture_output=True, text=True)


def check(folder: Path) -> None:
    """Everything that the image promises. Raises AssertionError."""
    root, config = unpack(folder)
    print(json.dumps({key: config[key] for key in ("User", "Entrypoint", "Cmd", "Healthcheck", "Labels")}))
    tools = ("gcc", "g++", "cc", "make", "cmake", "ninja", "ld", "pip", "git", "curl")
    found = [tool for tool in tools for place in ("usr/bin", "opt/xuanyuan/bin") if (root / place / tool).exists()]
    assert found == [], f"build tools in the image: {found}"
    log = folder / "container.log"

    with container("xuanyuan-refuses", bundle(folder, root, config, config["Cmd"], []), log) as process:
        assert process.wait(60) == 2, log.read_text()
    print("without keys: exit code 2,", log.read_text().strip())
    assert "would let anybody on the network ask" in log.read_text()

    command = ["serve", "--host", "0.0.0.0", "--port", str(PORT)]
    env = ["XUANYUAN_ALLOW_ANONYMOUS=yes", f"XUANYUAN_PORT={PORT}", "XUANYUAN_ENGINE_LOG=/cache/engine.log"]
    name = "xuanyuan-serves"
    started = time.monotonic()
    with container(name, bundle(folder, root, config, command, env), log) as process:
        wait_ready(process, log)
        print(f"ready after {time.monotonic() - started:.0f} s")
        model = ask("/v1/models")["data"][0]["id"]
        question = [{"role": "user", "content": "Complete the sentence: The capital of France is"}]
        answer = ask("/v1/chat/completions", {"model": model, "messages": question, "max_tokens": 16, "temperature": 0})
        print(model, "says:", answer["choices"][0]["message"]["content"])
        assert "Paris" in answer["choices"][0]["message"]["content"]
        healthy = inside(name, *config["Healthcheck"]["Test"][1:])
        assert healthy.returncode == 0, healthy.stderr
        assert "Making the demo" not in log.read_text(), "the demo checkpoint was not built in"
        who = inside(
            name, "sh", "-c", "id -u; touch /opt/x /usr/x /home/xuanyuan/x; grep -E 'CapEff|NoNewPrivs' /proc/1/status"
        )
        print("inside:", who.stdout.split(), "|", who.stderr.count("Read-only file system"), "of 3 writes refused")
        assert who.stdout.split() == ["10001", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
        assert who.stderr.count("Read-only file system") == 3
        written = inside(name, "sh", "-c", "find /cache /tmp -type f | sort").stdout.split()
        print("written:", written)
        subprocess.run(["runc", "kill", name, "TERM"], check=True)
        assert process.wait(60) == 0, log.read_text()
    print("stopped: exit code 0,", log.read_text().strip().splitlines()[-1])


def main() -> None:
    """Build what is missing, then check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--volume", action="append", default=[], help="HOST:CONTAINER[:ro], for the build")
    parser.add_argument("--keep", action="store_true", help="do not build again")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if not has(args.folder, BASE):
        make_base(args.folder)
    if not (args.keep and has(args.folder, IMAGE)):
        started = time.monotonic()
        build(args.folder, args.volume)
        print(f"built in {time.monotonic() - started:.0f} s")
    check(args.folder)


if __name__ == "__main__":
    main()
