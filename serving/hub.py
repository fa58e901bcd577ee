"""Find a checkpoint by its catalog name, as a local folder, or by its id on a hub; fetch it if it is not here."""

import os
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from serving.catalog import HUB_ID, Catalog, CatalogEntry
from serving.errors import CheckpointError, near
from serving.hubs import FILES, HUBS, PICKLES, Hub, Unreachable
from serving.log import log
from serving.units import format_bytes
from serving.weights import pickles, shards

# A hub that has not said what a model consists of by then counts as out of reach; the libraries would try much longer.
ANSWER_SECONDS = 8.0


def locate(
    model: str,
    catalog: Catalog,
    *,
    hub: str = "huggingface",
    revision: str | None = None,
    allow_pickle: bool = False,
) -> tuple[Path, CatalogEntry | None]:
    """The folder of a model, and its catalog row if it has one. `hub` is "huggingface" or "modelscope".

    A model that is in the hub's cache is found without network. Another is fetched: its safetensors, JSON and tokenizer
    files, and pickled weights only where there is nothing else and `allow_pickle` is set. A connection that breaks is
    taken up again; after a failure the next attempt keeps what is there. Raises CheckpointError.
    """
    path = os.path.expanduser(model)
    if os.path.isdir(path):
        # Links stay: the folder's name tells which row is meant.
        folder = Path(os.path.abspath(path))
        return folder, catalog.get(model_name(folder))
    if os.path.exists(path) or model.startswith((".", "/", "~")) or "\\" in model:
        raise CheckpointError(_no_folder(path))
    entry = catalog.get(model)
    if entry is None and not HUB_ID.fullmatch(model):
        raise CheckpointError(
            f'"{model}" is not in the catalog{catalog.near(model)}, no folder here, and no hub id like owner/name; '
            "`xuanyuan models` lists the catalog"
        )
    return _from_hub(entry, model, catalog, hub, revision, allow_pickle), entry


def model_name(folder: Path) -> str:
    """What a folder is called; of a snapshot in a hub's cache, what its repository is called."""
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.rpartition("--")[2]
    return folder.name


def hub_id(entry: CatalogEntry, hub: str) -> tuple[str, str | None]:
    """A row's id on a hub ("" where it is not there), and the revision to take when none is asked for."""
    if hub == "huggingface":
        return entry.huggingface, entry.huggingface_revision
    return entry.modelscope, None


def find_cached(model_id: str, hub: str, revision: str | None, allow_pickle: bool = False) -> Path | None:
    """The folder of a model whose weights are all in the hub's cache. Asks no network."""
    folder = HUBS[hub].cached(model_id, revision, FILES)
    if folder is None or not (folder / "config.json").exists():
        return None
    weights = shards(folder)
    if not weights and allow_pickle:
        folder = HUBS[hub].cached(model_id, revision, FILES + PICKLES)
        weights = pickles(folder) if folder else []
    return folder if weights and all(path.is_file() for path in weights) else None


def _from_hub(
    entry: CatalogEntry | None, model: str, catalog: Catalog, hub: str, revision: str | None, allow_pickle: bool
) -> Path:
    model_id, usual_revision = hub_id(entry, hub) if entry else (model, None)
    revision = revision or usual_revision
    title = HUBS[hub].title
    if not model_id:
        raise CheckpointError(f"{model}: the catalog has no id for it on {title}; give its folder")
    if folder := find_cached(model_id, hub, revision, allow_pickle):
        return folder
    log(f"{model_id} is not in the cache of {title}: asking {title} for it …")
    hint = "" if entry else catalog.near(model)
    try:
        sizes = _answer(lambda: HUBS[hub].listing(model_id, revision))
    except Unreachable as error:
        raise CheckpointError(_offline(model_id, hub, revision, allow_pickle, f"{error}{hint}")) from None
    except CheckpointError as error:
        raise CheckpointError(f"{error}{hint}") from None
    files = _wanted(model_id, sizes, title, allow_pickle)
    size = sum(size for path, size in sizes.items() if "/" not in path and any(fnmatch(path, file) for file in files))
    log(f"Fetching {model_id} from {title}: {format_bytes(size)}, less what is here already")
    try:
        return HUBS[hub].download(model_id, revision, files)
    except Unreachable as error:
        raise CheckpointError(
            f"{model_id}: the download from {title} broke off: {error}. Start again: what is there is kept"
        ) from None


def _wanted(model_id: str, sizes: Mapping[str, int], title: str, allow_pickle: bool) -> list[str]:
    """The patterns of the files to fetch. Raises CheckpointError where there is nothing that may be served."""
    top = [path for path in sizes if "/" not in path]
    if any(path.endswith(".safetensors") for path in top):
        return FILES
    pickled = [path for path in top if any(fnmatch(path, pattern) for pattern in PICKLES)]
    if not pickled:
        raise CheckpointError(f"{model_id}: has no weights on {title} (no *.safetensors)")
    if not allow_pickle:
        raise CheckpointError(
            f"{model_id}: {title} has its weights only as pickles ({pickled[0]}), which can run code when they are "
            "loaded; give --allow-pickle if you trust who made them, or --revision for a branch that has safetensors"
        )
    return FILES + PICKLES


def _answer(ask: Callable[[], dict[str, int]]) -> dict[str, int]:
    """What `ask` returns or raises; Unreachable when it takes longer than ANSWER_SECONDS.

    In a thread, because a name server that is silent cannot be given a time limit otherwise.
    """
    answers: SimpleQueue[dict[str, int] | Exception] = SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except Exception as error:
            answers.put(error)

    Thread(target=run, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except Empty:
        raise Unreachable(f"no answer in {ANSWER_SECONDS:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _no_folder(path: str) -> str:
    if os.path.exists(path):
        return f"{path}: is a file; give the folder that holds config.json"
    parent, name = os.path.split(os.path.abspath(path))
    siblings = os.listdir(parent) if os.path.isdir(parent) else []
    return f"{path}: there is no such folder{near(name, siblings)}"


def _offline(model_id: str, hub: str, revision: str | None, allow_pickle: bool, reason: str) -> str:
    """What to do without the hub. The commands leave pickles out, which some models have beside their safetensors."""
    name = model_id.rpartition("/")[2]

    def fetch(other: Hub, revision: str | None) -> str:
        words = [other.command, model_id, *(["--revision", revision] if revision else []), "--local-dir", name]
        return " ".join(words if allow_pickle else [*words, "--exclude", "'*.bin'"])

    other = next(key for key in HUBS if key != hub)
    return (
        f"{model_id}: is not in the cache here, and {HUBS[hub].title} cannot be reached: {reason}\n"
        f"  Try the other hub:  --hub {other}\n"
        f"  Or fetch it on a machine with network:\n"
        f"    {fetch(HUBS[hub], revision)}\n"
        f"    {fetch(HUBS[other], None)}\n"
        f"  and bring the folder here:\n"
        f"    make serve MODEL=/path/to/{name}"
    )
