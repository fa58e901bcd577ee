"""Checks of a checkpoint: can it be served, and does its tokenizer belong to its template? Needs a second or two."""

from pathlib import Path

from chat_template.errors import TemplateMismatchError
from chat_template.selfcheck import check_folder
from chat_template.settings import ChatSettings
from serving.catalog import load_catalog
from serving.checkpoint import Checkpoint, read_checkpoint
from serving.doctor_facts import Check, Facts
from serving.errors import ConfigError
from serving.hub import locate
from serving.units import format_bytes


def examine(folder: Path, facts: Facts) -> list[Check]:
    """The checks of the checkpoint in a local folder, as `xuanyuan serve` would take it. Nothing is downloaded."""
    config = facts.config
    if not folder.is_dir():
        return [Check("checkpoint", "fail", f"{folder} is no folder", "give the folder that holds config.json")]
    try:
        path, entry = locate(str(folder), load_catalog(Path(config.catalog) if config.catalog else None))
        checkpoint = read_checkpoint(
            path,
            entry=entry,
            template=config.template,
            device=facts.hardware.device,
            allow_pickle=config.allow_pickle,
        )
    except ConfigError as error:
        return [Check("checkpoint", "fail", str(error), "fetch it again, or serve another: xuanyuan models")]
    return [Check("checkpoint", "ok", summary(checkpoint)), template(checkpoint)]


def summary(checkpoint: Checkpoint) -> str:
    """A checkpoint in a line: name, form, size, context."""
    method = checkpoint.quantization
    form = f"{method.bits}-bit {method.method}" if method else checkpoint.dtype
    size = format_bytes(checkpoint.weight_bytes)
    return f"{checkpoint.name}: {form}, {size}, context {checkpoint.context:,} tokens"


def template(checkpoint: Checkpoint) -> Check:
    """Whether the family's golden conversations give the reference ids with the checkpoint's tokenizer."""
    if checkpoint.template == "none":
        return Check("template", "ok", "none: completion only")
    if checkpoint.template == "own":
        return Check("template", "ok", "the checkpoint's own: there is no reference to compare it with")
    try:
        check_folder(checkpoint.path, ChatSettings.from_dict({"template": checkpoint.template}))
    except (TemplateMismatchError, OSError, ValueError) as error:
        remedy = "fetch the checkpoint's tokenizer files again, or choose its template: --template"
        return Check("template", "fail", str(error), remedy)
    return Check("template", "ok", f"{checkpoint.template}: the golden conversations give the reference ids")
