"""What quantization costs in quality: forms of one model against the first of them, on the same texts and questions.

    python -m benchmarks quality
    python -m benchmarks quality --model XuanYuan-6B-Chat XuanYuan-6B-Chat-4bit --choices FinanceIQ/data
    python -m benchmarks quality --url bf16=http://127.0.0.1:8000 --url 4bit=http://127.0.0.1:8001 --html quality.html

Perplexity and next-token agreement are over texts on finance in Chinese and English; stop rate and length drift over
greedy answers to questions; accuracy over multiple-choice questions in CSV files with the columns Question, A, B, C, D,
Answer, as FinanceIQ has them (the letter that is likeliest as the next token counts). Every number has a 95 % bootstrap
interval over texts or questions. The first form is asked twice: what it shows against itself is noise. A limit is
failed, and the exit code 1, where the whole interval lies beyond it; with too few questions it stays unclear.
"""

import argparse
import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import options
from benchmarks.choices import Choice, read_folder
from benchmarks.client import Server
from benchmarks.console import BenchmarkError, finish, log, table
from benchmarks.processes import Running, running
from benchmarks.quality_asks import Exam, Sample, passages, questions, sit
from benchmarks.quality_gate import Finding, Interval, Thresholds, gate, levels
from benchmarks.quality_page import page
from benchmarks.schedule import AGAIN
from benchmarks.systems import BIN, QUIET, SERVED_NAME, System, free_port, parse_url
from benchmarks.workload import DATA

EXIT_GATE = 1
DEMO_FORMS = ("bf16", "bnb-8bit", "gptq-4bit")
LIMITS = {
    "perplexity_ratio": "most of its perplexity as a multiple of the first form's",
    "agreement": "least share of places at which both find the same token likeliest",
    "stop_rate_drop": "most that the share of answers which end by themselves may fall by",
    "length_drift": "most that answers may be longer, or the first form's be, as a share",
    "accuracy_drop": "most that the share of right answers may fall by",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    forms = parser.add_argument_group("forms, the first of all is what the others are compared with")
    forms.add_argument("--model", nargs="+", default=[], metavar="MODEL", help="catalog names, folders or hub ids")
    forms.add_argument("--demo-form", nargs="+", default=[], metavar="FORM", help="of the demo model")
    forms.add_argument(
        "--url", type=parse_url, action="append", default=[], metavar="NAME=URL", help="a server that runs already"
    )
    forms.add_argument("--api-key-file", type=Path, metavar="FILE", help="for --url: holds the key")
    exam = parser.add_argument_group("what is asked")
    exam.add_argument(
        "--choices", type=Path, default=DATA / "choices", metavar="DIR", help="of CSV files (default: a few of our own)"
    )
    exam.add_argument("--shots", type=int, default=5, metavar="N", help="solved examples, a file's first (default: 5)")
    exam.add_argument("--num-prompts", type=options.positive, default=40, metavar="N", help="(default: %(default)s)")
    exam.add_argument("--max-tokens", type=options.positive, default=256, metavar="N", help="(default: %(default)s)")
    exam.add_argument("--concurrency", type=options.positive, default=8, metavar="N", help="(default: %(default)s)")
    exam.add_argument("--seed", type=int, default=0)
    limits = parser.add_argument_group("limits")
    for name, text in LIMITS.items():
        flag, default = f"--{name.replace('_', '-')}", getattr(Thresholds(), name)
        limits.add_argument(flag, type=options.positive_float, default=default, metavar="X", help=f"{text} ({default})")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write the result as a page")


def run(args: argparse.Namespace) -> int:
    """Ask every form, one server after the other. Exit code 1 where a form lost too much."""
    exam = Exam(
        passages=passages(),
        questions=questions(args.num_prompts, args.seed),
        max_tokens=args.max_tokens,
        choices=choices(args),
        shots=args.shots,
        concurrency=args.concurrency,
    )
    samples = sample(systems(args), exam)
    limits = Thresholds(**{name: getattr(args, name) for name in LIMITS})
    own = {name: levels(one) for name, one in samples.items()}
    findings = gate(samples, limits)
    result = {
        "levels": {name: {key: asdict(value) for key, value in found.items()} for name, found in own.items()},
        "gate": [finding.as_dict() for finding in findings],
        "passed": not failures(findings),
        "thresholds": asdict(limits),
        "num_prompts": len(exam.questions),
        "max_tokens": args.max_tokens,
        "subjects": {name: len(found) - args.shots for name, found in exam.choices.items()},
        "shots": args.shots,
        "seed": args.seed,
    }
    if args.html:
        args.html.write_text(page(result, args.command), encoding="utf-8")
    finish(result, text(own, findings), only_json=args.json)
    return EXIT_GATE if failures(findings) else 0


def choices(args: argparse.Namespace) -> dict[str, list[Choice]]:
    """The multiple-choice questions. Raises BenchmarkError where the examples leave none of a subject."""
    found = read_folder(args.choices)
    for name, rows in found.items():
        if len(rows) <= args.shots:
            raise BenchmarkError(f"--shots {args.shots}: {name}.csv has {len(rows)} questions, expected more than that")
    return found


def systems(args: argparse.Namespace) -> list[System]:
    """The forms in order. Raises BenchmarkError for fewer than two, or two of one name."""
    started = [(name, (name,)) for name in args.model] + [(name, ("--demo-form", name)) for name in args.demo_form]
    if not started and not args.url:
        started = [(name, ("--demo-form", name)) for name in DEMO_FORMS]
    found = [System(name, options.server_at(url, args.api_key_file)) for name, url in args.url]
    found = [launched(Path(name).name, words) for name, words in started] + found
    names = [system.name for system in found]
    if len(names) < 2 or len(set(names)) < len(names):
        raise BenchmarkError(f"name two forms or more, each once; got {', '.join(names)}")
    return found


def launched(name: str, words: tuple[str, ...]) -> System:
    """A form that the launcher serves."""
    port = free_port()
    where = ("--host", "127.0.0.1", "--port", str(port), "--served-model-name", SERVED_NAME, "--log-format", "none")
    return System(name, Server(f"http://127.0.0.1:{port}"), (str(BIN / "xuanyuan"), "serve", *words, *where), QUIET)


def sample(forms: list[System], exam: Exam) -> dict[str, Sample]:
    """What each form answers; the first one twice."""
    found: dict[str, Sample] = {}
    for number, system in enumerate(forms):
        log(f"[{number + 1} of {len(forms)}] {system.name}")
        with tempfile.TemporaryDirectory() as folder, running(system, Path(folder)) as server:
            found[system.name] = ask(server, exam)
            if number == 0:
                found[system.name + AGAIN] = ask(server, exam)
    return found


def ask(server: Running, exam: Exam) -> Sample:
    return asyncio.run(sit(server.server, server.model, exam))


def failures(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict == "fail"]


def text(own: dict[str, dict[str, Interval]], findings: list[Finding]) -> str:
    """What each form does by itself, then against the first, with the limits that were failed."""
    names = list(next(iter(own.values())))
    rows: list[list[object]] = [["", *names]]
    rows += [[form, *(words(found[name]) for name in names)] for form, found in own.items()]
    lost: list[list[object]] = [["", "against the first", "value", "limit", "verdict"]]
    lost += [[one.form, one.metric, words(one.interval), limit(one), one.verdict] for one in findings]
    failed = [f"FAILED: {one.form}: {one.metric} {words(one.interval)}, {limit(one)}" for one in failures(findings)]
    return "\n\n".join([table(rows), table(lost), "\n".join(failed) or "No limit is failed."])


def words(interval: Interval) -> str:
    """ "12.34 (11.9 to 12.8)"."""
    return f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})"


def limit(finding: Finding) -> str:
    """ "at least 0.9", "at most 1.1", or both ends."""
    ends = {"at least": finding.least, "at most": finding.most}
    return ", ".join(f"{words} {edge:.3g}" for words, edge in ends.items() if abs(edge) != float("inf"))
