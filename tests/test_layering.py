"""The modules of the package import downwards only, found in the source of every one of them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ntmbench

PACKAGE = Path(ntmbench.__file__).parent

LAYERS = (
    ("errors", "interrupt", "streams", "stats"),
    ("plugins", "config", "files", "folder", "options"),
    ("claim", "generators", "memory", "models", "results"),
    ("contract",),
    ("tasks",),
    ("machine", "metrics", "optim", "report"),
    ("engine",),
    ("resolve",),
    ("evaluate",),
    ("tracing", "weights"),
    ("train",),
    ("finish", "saved"),
    ("run",),
    ("compare", "testing", "terminal", "track"),
    ("show",),
    ("cells", "bench"),
    ("sweep",),
    ("cli",),
    ("__main__",),
)
"""From the lowest to the highest. A module imports from lower layers, or from its own."""
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

ONLY: dict[str, set[str]] = {
    "generators": {"generators", "errors"},
    "models": {"models", "errors", "plugins"},
    "report": {
        "__init__",
        "errors",
        "files",
        "folder",
        "memory",
        "report",
        "results",
        "stats",
        "streams",
    },
    "results": {"config", "files", "folder", "errors"},
    "stats": set(),
    "errors": set(),
    "config": {"errors"},
    "options": {"errors"},
    "memory": {"files", "errors"},
    "files": {"errors"},
    "folder": {"files", "errors"},
}
"""What these may import of the package, whatever the layers say."""

HEAVY = {"torch", "pandas", "matplotlib", "scipy"}
LIGHT = (
    *("errors", "plugins", "config", "files", "folder", "options", "tasks", "streams"),
    *("terminal", "interrupt", "cli", "generators", "claim", "memory"),
)
WITHOUT = {name: HEAVY for name in LIGHT} | {name: {"torch"} for name in ("report", "results")}
WITHOUT["stats"] = {"torch", "pandas", "matplotlib"}
LIGHT_PARTS = ("ntmbench.sweep", "ntmbench.sweep.manifest", "ntmbench.sweep.standing")
"""Modules of a heavy part that must not pull those in either: `ntmbench status` is quick."""
"""What these must not pull in when they are imported."""

BORROWED_NAMES: set[str] = set()
"""Modules that may be called like one of the standard library."""


@dataclass(frozen=True)
class Import:
    """An import in a module: what it names, and whether it is done when the module is."""

    source: str
    target: str
    at_import: bool

    @property
    def target_unit(self) -> str | None:
        """The top-level module or subpackage of ntmbench that is imported, if it is one."""
        root, _, rest = self.target.partition(".")
        return (rest.partition(".")[0] or "__init__") if root == "ntmbench" else None


def unit(module: str) -> str:
    """`ntmbench.models.ntm` -> `models`."""
    return [*module.split("."), "__init__"][1]


def module_name(path: Path) -> str:
    parts = ("ntmbench", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def statements(node: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Every import below `node`, but for those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_import
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from statements(ast.Module(child.orelse, []), at_import)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(child, at_import and not inside)


def imports_of(source: str, text: str) -> list[Import]:
    """The imports of one module; a relative one is refused."""
    found = []
    for statement, at_import in statements(ast.parse(text)):
        if isinstance(statement, ast.Import):
            targets = [alias.name for alias in statement.names]
        else:
            assert statement.level == 0, f"{source}: imports are absolute"
            module = statement.module or ""
            below = [f"{module}.{alias.name}" for alias in statement.names]
            targets = [name if name in SOURCES else module for name in below]
        found += [Import(source, target, at_import) for target in dict.fromkeys(targets)]
    return found


IMPORTS = [
    found
    for source, path in SOURCES.items()
    for found in imports_of(source, path.read_text(encoding="utf-8"))
]
INSIDE = [found for found in IMPORTS if found.target_unit is not None]


def pulled_in(module: str) -> set[str]:
    """Everything that importing `module` imports, as far as this package's source says."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += [found.target for found in IMPORTS if found.source == name and found.at_import]
        parents = name.split(".")
        waiting += [".".join(parents[:i]) for i in range(1, len(parents))]
    return seen


def test_the_walk_sees_what_is_there() -> None:
    """Imports at the top, in functions and of submodules are found, those for types are not."""
    text = (
        "import torch\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pandas\nelse:\n    import numpy\n"
        "def f():\n    from ntmbench import tasks\n    import ntmbench.run\n"
        "class C:\n    from ntmbench.errors import UserError\n"
        "try:\n    import scipy\nexcept ImportError:\n    pass\n"
    )
    found = {(row.target, row.at_import) for row in imports_of("x", text)}
    assert found == {
        *(("torch", True), ("typing", True), ("numpy", True), ("ntmbench.tasks", False)),
        *(("ntmbench.run", False), ("ntmbench.errors", True), ("scipy", True)),
    }
    assert "torch" in pulled_in("ntmbench.run") and "pandas" in pulled_in("ntmbench.report.page")
    assert len(SOURCES) > 25 and len(INSIDE) > 60


def test_every_module_has_its_layer() -> None:
    units = {unit(module) for module in SOURCES} - {"__init__"}
    assert units == set(RANK)


def test_imports_go_downwards() -> None:
    """No module imports from a higher layer, not even in a function."""
    upward = [
        f"{found.source} imports {found.target}"
        for found in INSIDE
        if unit(found.source) != "__init__"
        and found.target_unit != "__init__"
        and RANK[unit(found.source)] < RANK[found.target_unit]
    ]
    assert upward == []


def test_who_may_import_what() -> None:
    wrong = [
        f"{found.source} imports {found.target}"
        for found in INSIDE
        for allowed in [ONLY.get(unit(found.source))]
        if allowed is not None and found.target_unit not in allowed
    ]
    assert wrong == []


def test_generators_and_models_know_nothing_of_each_other() -> None:
    pairs = {(unit(found.source), found.target_unit) for found in INSIDE}
    assert not {("generators", "models"), ("models", "generators")} & pairs
    assert ("models", "errors") in pairs and ("generators", "errors") in pairs


def test_only_the_program_imports_the_command_line() -> None:
    importing = {found.source for found in INSIDE if found.target_unit == "cli"}
    assert {source for source in importing if unit(source) != "cli"} == {"ntmbench.__main__"}


@pytest.mark.parametrize("module", [name for name in SOURCES if unit(name) in WITHOUT])
def test_what_must_stay_light(module) -> None:
    heavy = {name.partition(".")[0] for name in pulled_in(module)} & WITHOUT[unit(module)]
    assert not heavy


@pytest.mark.parametrize("module", LIGHT_PARTS)
def test_what_must_stay_light_in_a_heavy_part(module) -> None:
    assert not {name.partition(".")[0] for name in pulled_in(module)} & HEAVY


@pytest.mark.parametrize("module", [m for m in SOURCES if unit(m) in ("report", "results")])
def test_the_report_never_imports_torch(module) -> None:
    """Not in a function either."""
    assert not [row for row in IMPORTS if row.source == module and "torch" in row.target]


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    assert pulled_in("ntmbench") & set(SOURCES) == {"ntmbench"}


def test_no_module_imports_itself_in_a_circle() -> None:
    """Among the imports done at import time. A package and its modules count as what they are."""
    edges: dict[str, set[str]] = {name: set() for name in SOURCES}
    for found in INSIDE:
        if found.at_import and found.target in SOURCES and found.target != "ntmbench":
            edges[found.source].add(found.target)
    while True:
        leaves = {name for name, targets in edges.items() if not targets}
        if not leaves:
            break
        edges = {name: targets - leaves for name, targets in edges.items() if name not in leaves}
    assert not edges


def test_no_module_is_called_like_one_of_the_standard_library() -> None:
    names = {part for module in SOURCES for part in module.split(".")}
    assert names & (sys.stdlib_module_names - {"__main__"}) == BORROWED_NAMES
