"""`xuanyuan doctor`: what is right and wrong with this box, this installation and, if asked, a checkpoint."""

from collections import Counter
from typing import TextIO

from serving import doctor_box, doctor_installation
from serving.doctor_facts import Check, Facts, Status
from serving.terminal import Style, paint, printable

COLOURS: dict[Status, Style] = {"ok": "green", "warn": "yellow", "fail": "red"}


def diagnose(facts: Facts) -> list[Check]:
    """All checks of the box and the installation."""
    return [check(facts) for check in (*doctor_installation.CHECKS, *doctor_box.CHECKS)]


def table(checks: list[Check], stream: TextIO) -> str:
    """One line a check, and a second one for its remedy; at the end how many are wrong."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        status = paint(f"{check.status:<4}", COLOURS[check.status], stream)
        lines.append(f"{status}  {check.name:<{width}}  {printable(check.detail)}")
        if check.status != "ok":
            lines.append(f"{'':<4}  {'':<{width}}  -> {printable(check.remedy)}")
    counts = Counter(check.status for check in checks)
    return "\n".join([*lines, "", f"{counts['ok']} ok, {counts['warn']} to know, {counts['fail']} to put right"])
