"""Make what follows from other files of the chart: the values' `config` section, values.schema.json, README.md.

    python helm/generate.py            write them
    python helm/generate.py --check    exit code 1, naming the file, where one is not what would be written

`config` holds the launcher's settings in camelCase, with its defaults and help texts. The schema is closed at every
level: a default has the type of its value, and a `# @schema` comment (JSON) narrows it. README.md gets a table.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serving.config import FIELDS, kind_of

CHART = Path(__file__).parent / "xuanyuan"
BEGIN, END = "  # begin of what helm/generate.py writes\n", "  # end of what helm/generate.py writes\n"
# Settings that other values decide, and which.
DECIDED_ELSEWHERE = {
    "keys_file": "keys",
    "catalog": "catalog",
    "ray": "mode",
    "ray_address": "mode",
    "replicas": "replicas",
    "autoscale": "autoscaling",
}
# A pod is asked from outside, logs to its console, and machines read that.
DEFAULTS_IN_A_POD: dict[str, Any] = {"host": "0.0.0.0", "engine_log": "-", "log_format": "json", "drain_delay": 10.0}
# Numbers in YAML are doubles on their way through Helm: exact to here.
LARGEST_INTEGER = 2**53 - 1
LARGEST_NUMBER = 1_000_000_000
NARROWER: dict[str, dict[str, Any]] = {
    "host": {"pattern": "^[0-9A-Za-z:.-]+$"},
    "port": {"minimum": 1, "maximum": 65535},
    "gpu_memory_utilization": {"maximum": 1},
    "max_num_seqs": {"maximum": 65536},
    "api_server_count": {"maximum": 64},
    "tensor_parallel_size": {"maximum": 1024},
    "pipeline_parallel_size": {"maximum": 1024},
}
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
KEY = re.compile(r"( *)([A-Za-z][\w.-]*):(?: |$)")


def camel(name: str) -> str:
    """max_model_len -> maxModelLen."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def settings() -> list[str]:
    """The launcher's settings that are values of `config`."""
    return [name for name in FIELDS if name not in DECIDED_ELSEWHERE]


def config_section() -> str:
    """The lines between BEGIN and END."""
    return "".join(line + "\n" for name in settings() for line in config_lines(name))


def config_lines(name: str) -> Iterator[str]:
    """One setting: its help, its limits, its default in a pod."""
    item = FIELDS[name]
    default = DEFAULTS_IN_A_POD.get(name, item.default)
    yield f"  # -- {sentence(item.metadata['help'])}"
    if limits := setting_schema(name):
        yield f"  # @schema {json.dumps(limits)}"
    yield f"  {camel(name)}: {scalar('' if default is None else default)}"


def sentence(text: str) -> str:
    """A help text with a capital letter, as the other comments have it."""
    return text[:1].upper() + text[1:]


def setting_schema(name: str) -> dict[str, Any]:
    """What a setting may be, beyond its type."""
    item, kind = FIELDS[name], kind_of(FIELDS[name])
    if item.metadata["choices"]:
        return {"enum": list(item.metadata["choices"])}
    if kind is int or kind is float:
        limits = {"minimum": item.metadata["least"], "maximum": LARGEST_INTEGER if kind is int else LARGEST_NUMBER}
        return {"type": TYPES[kind]} | limits | NARROWER.get(name, {})
    return NARROWER.get(name, {})


def scalar(value: Any) -> str:
    """A value in YAML: texts quoted where they would be read as something else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return yaml.safe_dump(value, default_style=None, width=1000).removesuffix("\n").removesuffix("\n...")


@dataclass(frozen=True)
class Value:
    """One value: its path, its default, its comment, its `# @schema`."""

    path: tuple[str, ...]
    default: Any
    comment: str
    schema: Mapping[str, Any] | None

    @property
    def is_section(self) -> bool:
        """Whether it holds other values and is none itself."""
        return isinstance(self.default, dict) and self.schema is None


def read_values(text: str) -> list[Value]:
    """All values and sections of values.yaml, in its order, with their comments."""
    data = yaml.safe_load(text)
    found: list[Value] = []
    comments: list[str] = []
    stack: list[tuple[int, str]] = []
    opaque = -1  # the indent of a value whose own lines follow
    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if stripped.startswith("#"):
            comments.append(stripped.removeprefix("#").strip())
            continue
        if not stripped:
            comments = []
            continue
        if 0 <= opaque < indent:
            continue
        match = KEY.match(line)
        if match is None:
            raise SystemExit(f"values.yaml: a line that is no key: {line!r}")
        stack = [(depth, name) for depth, name in stack if depth < indent] + [(indent, match[2])]
        path = tuple(name for _, name in stack)
        value = Value(path, at(data, path), *read_comment(path, comments))
        opaque = -1 if value.is_section else indent
        found.append(value)
        comments = []
    return found


def read_comment(path: tuple[str, ...], lines: list[str]) -> tuple[str, Mapping[str, Any] | None]:
    """The text after `--`, and the JSON after `@schema`."""
    words: list[str] = []
    schema = None
    for line in lines:
        if line.startswith("@schema "):
            try:
                schema = json.loads(line.removeprefix("@schema "))
            except ValueError as error:
                raise SystemExit(f"values.yaml: {'.'.join(path)}: @schema is not JSON: {error}") from None
        elif line.startswith("--"):
            words = [line.removeprefix("--").strip()]
        elif words:
            words.append(line)
    return " ".join(words), schema


def at(data: Any, path: tuple[str, ...]) -> Any:
    """The value at a path."""
    for name in path:
        data = data[name]
    return data


def schema(values: list[Value]) -> dict[str, Any]:
    """values.schema.json. Every section is closed, and everything in it required: a null would take a default away."""
    root = closed({})
    for value in values:
        parent = root
        for name in value.path[:-1]:
            parent = parent["properties"][name]
        parent["properties"][value.path[-1]] = closed({}) if value.is_section else leaf(value)
        parent["required"].append(value.path[-1])
    # Helm hands these to every chart.
    root["properties"]["global"] = {"type": "object", "maxProperties": 0}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart xuanyuan",
        **root,
        "definitions": definitions(root),
    }


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """An object that takes no other properties."""
    return {"type": "object", "additionalProperties": False, "required": [], "properties": properties}


def leaf(value: Value) -> dict[str, Any]:
    """The schema of one value."""
    given = dict(value.schema or {})
    if "$ref" in given:
        return given
    kind = {} if "enum" in given or "type" in given else {"type": TYPES[type(value.default)]}
    if type(value.default) is int and "type" not in given and "enum" not in given:
        kind = {"type": "number"} if "exclusiveMinimum" in given else {"type": "integer"}
    return {"description": value.comment} | kind | given


def definitions(node: Any) -> dict[str, Any]:
    """Kubernetes' own types that the schema refers to, and those that they refer to, each closed."""
    from kubernetes_validate.utils import latest_version, schema_contents

    version = latest_version()
    name = f"kubernetes-json-schema/v{version}-local-strict/_definitions.json"
    known = schema_contents(name, version)["$defs"]
    found: dict[str, Any] = {}
    wanted = list(references(node))
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = without_descriptions(known[name])
            wanted += references(found[name])
    return dict(sorted(found.items()))


def references(node: Any) -> Iterator[str]:
    """The names of all definitions that a schema refers to."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def without_descriptions(node: Any, *, names: bool = False) -> Any:
    """A schema of Kubernetes for ours: no prose, our place of definitions, no nulls. `names`: keys are properties."""
    if isinstance(node, list):
        return [without_descriptions(child) for child in node]
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, child in node.items():
        if names:
            kept[key] = without_descriptions(child)
        elif key == "$ref":
            kept[key] = "#/definitions/" + child.rpartition("/")[2]
        elif key == "type" and isinstance(child, list):
            types = [word for word in child if word != "null"]
            kept[key] = types[0] if len(types) == 1 else types
        elif key not in ("description", "format") and not key.startswith("x-kubernetes"):
            kept[key] = without_descriptions(child, names=key == "properties")
    return kept


def readme(values: list[Value], text: str) -> str:
    """README.md: what stands before the table by hand, and the table."""
    head, mark, _ = text.partition("<!-- values: helm/generate.py -->\n")
    if not mark:
        raise SystemExit("README.md: the line <!-- values: helm/generate.py --> is missing")
    rows = [
        f"| `{'.'.join(value.path)}` | {shown(value.default)} | {cell(value.comment)} |"
        for value in values
        if not value.is_section
    ]
    return "\n".join([head + mark, "| value | default | meaning |", "|---|---|---|", *rows, ""])


def shown(default: Any) -> str:
    """A default in a cell of the table."""
    return f"`{cell(json.dumps(default, ensure_ascii=False))}`"


def cell(text: str) -> str:
    """Text in a cell of a table."""
    return text.replace("|", "\\|")


def generated() -> dict[Path, str]:
    """What each file should hold."""
    path = CHART / "values.yaml"
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path}: the lines that mark what is generated are missing")
    text = head + BEGIN + config_section() + END + tail
    values = read_values(text)
    page = CHART / "README.md"
    return {
        path: text,
        CHART / "values.schema.json": json.dumps(schema(values), indent=1, ensure_ascii=False) + "\n",
        page: readme(values, page.read_text(encoding="utf-8")),
    }


def main(words: list[str]) -> int:
    """Write, or with --check compare. Returns the exit code."""
    stale = [
        path for path, text in generated().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if words == ["--check"]:
            print(f"{path} is not what helm/generate.py writes")
        else:
            path.write_text(generated()[path], encoding="utf-8")
            print(f"wrote {path}")
    return 1 if stale and words == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
