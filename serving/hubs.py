"""The two hubs: what lies in their caches here, what a model has there, how it is fetched.

Their libraries are imported where they are used, so that `xuanyuan --help` does without.
"""

import logging
from pathlib import Path
from typing import Protocol

from serving.errors import CheckpointError

# What a checkpoint needs, all at its top level. Never code.
FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt"]
PICKLES = ["*.bin"]
NOT_BELOW = ["*/*"]


class Unreachable(Exception):
    """The hub gave no answer, or none that makes sense."""


class Hub(Protocol):
    """One hub. `title` is its name for people, `command` that of its own downloader."""

    title: str
    command: str

    def cached(self, model_id: str, revision: str | None, files: list[str]) -> Path | None:
        """The folder in the hub's cache, which may lack files; None where there is none. Asks no network."""

    def listing(self, model_id: str, revision: str | None) -> dict[str, int]:
        """Sizes of the model's files by path. Raises Unreachable, or CheckpointError where there is no such model."""

    def download(self, model_id: str, revision: str | None, files: list[str]) -> Path:
        """Fetch what is not in the cache yet, with progress bars, and return the folder. Raises Unreachable."""


class HuggingFace:
    """huggingface.co, or what HF_ENDPOINT names."""

    title = "Hugging Face"
    command = "hf download"

    def cached(self, model_id: str, revision: str | None, files: list[str]) -> Path | None:
        """See Hub."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            return Path(
                snapshot_download(
                    model_id,
                    revision=revision,
                    allow_patterns=files,
                    ignore_patterns=NOT_BELOW,
                    local_files_only=True,
                )
            )
        except LocalEntryNotFoundError:
            return None
        except HFValidationError as error:
            raise CheckpointError(f"{model_id}: not an id of Hugging Face: {error}") from None

    def listing(self, model_id: str, revision: str | None) -> dict[str, int]:
        """See Hub."""
        from httpx2 import HTTPError
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        try:
            info = HfApi().model_info(model_id, revision=revision, files_metadata=True)
        except GatedRepoError:
            raise CheckpointError(
                f"{model_id}: Hugging Face gives it only to those who were granted access; ask for it on its page, "
                "then `hf auth login`"
            ) from None
        except RepositoryNotFoundError:
            raise CheckpointError(
                f"{model_id}: Hugging Face has no such model, or it is private (`hf auth login`)"
            ) from None
        except RevisionNotFoundError:
            raise CheckpointError(f"{model_id}: has no revision {revision!r} on Hugging Face") from None
        except (HTTPError, OSError) as error:
            raise Unreachable(str(error).splitlines()[0]) from None
        return {file.rfilename: file.size or 0 for file in info.siblings or []}

    def download(self, model_id: str, revision: str | None, files: list[str]) -> Path:
        """See Hub."""
        from httpx2 import HTTPError
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(model_id, revision=revision, allow_patterns=files, ignore_patterns=NOT_BELOW))
        except (HTTPError, OSError) as error:
            raise Unreachable(str(error).splitlines()[0]) from None


class ModelScope:
    """modelscope.cn, or what MODELSCOPE_ENDPOINT names. `modelscope_hub` is the part of `modelscope` without torch."""

    title = "ModelScope"
    command = "modelscope download"

    def cached(self, model_id: str, revision: str | None, files: list[str]) -> Path | None:
        """See Hub."""
        from modelscope_hub import HubApi
        from modelscope_hub.errors import CacheError

        try:
            return HubApi().download_repo(model_id, "model", revision=revision, local_files_only=True)
        except CacheError:
            return None

    def listing(self, model_id: str, revision: str | None) -> dict[str, int]:
        """See Hub."""
        from modelscope_hub import HubApi
        from modelscope_hub.errors import HubError, NotExistError

        # It warns of each of its retries; what they led to is said once, here.
        logging.getLogger("modelscope_hub").setLevel(logging.ERROR)
        try:
            files = HubApi().list_repo_files(model_id, "model", revision=revision)
        except NotExistError:
            raise CheckpointError(f"{model_id}: ModelScope has no such model or revision, or it is private") from None
        except (HubError, OSError) as error:
            raise Unreachable(str(error).splitlines()[0]) from None
        return {file.path: file.size for file in files if not file.is_dir}

    def download(self, model_id: str, revision: str | None, files: list[str]) -> Path:
        """See Hub."""
        from modelscope_hub import HubApi
        from modelscope_hub.errors import HubError

        try:
            return HubApi().download_repo(
                model_id, "model", revision=revision, allow_patterns=files, ignore_patterns=NOT_BELOW
            )
        except (HubError, OSError) as error:
            raise Unreachable(str(error).splitlines()[0]) from None


HUBS: dict[str, Hub] = {"huggingface": HuggingFace(), "modelscope": ModelScope()}
