"""The table in docs/choosing.md is what `xuanyuan plan` works out, in both languages."""

import re
from pathlib import Path

import pytest

from serving.catalog import load_catalog
from serving.checkpoint import Checkpoint, read_checkpoint
from serving.commands.plan import speed
from serving.errors import DoesNotFitError
from serving.hardware import declared
from serving.plan import make_plan
from tests.docs.pages import read

ROW = re.compile(r"^\| ([A-Z][\w-]+) \| (.*) \| (.*) \| (.*) \| (.*) \|$", re.MULTILINE)
MODELS = ("XuanYuan-6B-Chat", "XuanYuan-6B-Chat-8bit", "XuanYuan-6B-Chat-4bit")


@pytest.fixture(scope="module")
def checkpoints(home: Path) -> list[Checkpoint]:
    """The chat model in its three forms."""
    catalog = load_catalog(None)
    return [
        read_checkpoint(home / "checkpoints" / name, entry=catalog.get(name), name=name, device="cuda")
        for name in MODELS
    ]


def requests(checkpoint: Checkpoint, card: str) -> str:
    """ "28 / 128": requests of full length, and shorter ones; "" where it does not fit."""
    try:
        plan = make_plan(checkpoint, declared(card, 1, None))
    except DoesNotFitError:
        return ""
    return f"{plan.full_length_requests} / {plan.max_num_seqs}"


def one_user(checkpoint: Checkpoint, card: str) -> str:
    """Tokens/s that reading the weights allows."""
    hardware = declared(card, 1, None)
    try:
        (line,) = speed(make_plan(checkpoint, hardware), hardware)
    except DoesNotFitError:
        return "–"
    found = re.search(r"about (\d+) tokens/s", line)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("page", "no_room"), [("docs/choosing.md", "does not fit"), ("docs/choosing.zh-CN.md", "放不下")]
)
def test_the_table_is_the_plan(checkpoints: list[Checkpoint], page: str, no_room: str) -> None:
    rows = ROW.findall(read(page))
    assert len(rows) == 12  # its heading too
    for card, *shown in rows[1:]:
        expected = [requests(checkpoint, card) or no_room for checkpoint in checkpoints]
        assert [cell.strip() for cell in shown] == [*expected, one_user(checkpoints[0], card)], card
