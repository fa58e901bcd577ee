"""This project's Python source as syntax trees, and the texts that an expression in it can become. Nothing is run."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# Stands for whatever is only known when the program runs.
HOLE = "…"
# An expression that leads back to itself, or on and on, has no text of its own.
DEEPEST = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file. `modules` holds all of them by name, so that what is imported can be followed."""

    name: str
    path: Path
    tree: ast.Module
    modules: dict[str, "Module"]

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """What is assigned once to a name at the top level."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node.value
        return found

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The functions at the top level."""
        return {node.name: node for node in self.tree.body if isinstance(node, Function)}

    @cached_property
    def imported(self) -> dict[str, tuple["Module", str]]:
        """Names that come from another of our modules, wherever in the file they are imported."""
        found: dict[str, tuple[Module, str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module in self.modules:
                module = self.modules[node.module]
                found |= {alias.asname or alias.name: (module, alias.name) for alias in node.names}
        return found

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node that each node stands in."""
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def function_of(self, node: ast.AST) -> Function | None:
        """The innermost function around a node."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, Function):
                return node
        return None


@cache
def read_modules(*packages: str) -> dict[str, Module]:
    """All modules of the packages, by name."""
    modules: dict[str, Module] = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            modules[name] = Module(name, path.relative_to(ROOT), ast.parse(path.read_text()), modules)
    return modules


def texts(module: Module, function: Function | None, node: ast.expr, depth: int = 0) -> set[str]:
    """The texts that an expression in `function` can have, with HOLE for each part that the source does not say."""

    def inside(other: ast.expr) -> set[str]:
        return texts(module, function, other, depth + 1)

    if depth > DEEPEST:
        return {HOLE}
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.JoinedStr):
        return {"".join(parts) for parts in product(*map(inside, node.values))}
    if isinstance(node, ast.FormattedValue):
        # Only what is wholly known is filled in: a half of a reason helps nobody to find a message. Callers give names
        # and values, which are not the message's own.
        found = {HOLE} if is_parameter(function, node.value) else inside(node.value)
        plain = node.conversion == -1 and node.format_spec is None
        return found if plain and not any(HOLE in text for text in found) else {HOLE}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return {left + right for left in inside(node.left) for right in inside(node.right)}
    if isinstance(node, ast.IfExp):
        return inside(node.body) | inside(node.orelse)
    if isinstance(node, ast.BoolOp):
        return set().union(*map(inside, node.values))
    if isinstance(node, ast.Name):
        return of_name(module, function, node.id, depth + 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return of_call(module, node.func.id, depth + 1)
    return {HOLE}


def is_parameter(function: Function | None, node: ast.expr) -> bool:
    """Whether an expression is what the function's callers give, and nothing else."""
    if function is None or not isinstance(node, ast.Name) or any(assigned(function, node.id)):
        return False
    return node.id in parameters_of(function)


def parameters_of(function: Function) -> list[str]:
    """The names of a function's parameters, in their order."""
    return [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]


def of_name(module: Module, function: Function | None, name: str, depth: int) -> set[str]:
    """What a name can stand for: all that the function assigns to it, what its callers give, or a constant."""
    if function is not None:
        if values := list(assigned(function, name)):
            return set().union(*(texts(module, function, value, depth) for value in values))
        if name in parameters_of(function):
            return of_parameter(module, function, parameters_of(function).index(name), depth)
    if name in module.constants:
        return texts(module, None, module.constants[name], depth)
    if name in module.imported:
        other, original = module.imported[name]
        return of_name(other, None, original, depth)
    return {HOLE}


def assigned(function: Function, name: str) -> Iterator[ast.expr]:
    """Every expression that a function assigns to a name."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and any(
            isinstance(goal, ast.Name) and goal.id == name for goal in node.targets
        ):
            yield node.value
        if isinstance(node, ast.NamedExpr) and node.target.id == name:
            yield node.value


def of_parameter(module: Module, function: Function, place: int, depth: int) -> set[str]:
    """What the callers in the same module give by position."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function.name:
            given = node.args[place] if place < len(node.args) else None
            found |= texts(module, module.function_of(node), given, depth) if given else {HOLE}
    return found or {HOLE}


def of_call(module: Module, name: str, depth: int) -> set[str]:
    """What one of our own functions can return."""
    module, name = module.imported.get(name, (module, name))
    function = module.functions.get(name)
    if function is None:
        return {HOLE}
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    return set().union(*(texts(module, function, value, depth) for value in values)) or {HOLE}
