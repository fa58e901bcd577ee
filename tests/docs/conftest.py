"""The family's checkpoints as the guides speak of them."""

from pathlib import Path

import pytest

from tests.family import make_tokenizer
from tests.helm.checkpoints import FORMS, into_hub_cache, make_checkpoint


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home folder, with the family's 6B checkpoints in the hub's cache: true in size, and without bytes."""
    folder = tmp_path_factory.mktemp("home")
    for name in FORMS:
        into_hub_cache(make_checkpoint(folder / "checkpoints" / name, name), folder, name)
    make_tokenizer(folder / "tokenizer")
    return folder
