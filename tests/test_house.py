"""Sizes at which a newcomer loses the overview, and circles in which nothing can be understood by itself."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    "streamptycho": ROOT / "streamptycho",
    "streamptycho_services": ROOT / "services" / "streamptycho_services",
    "streamptycho_sim": ROOT / "sim" / "streamptycho_sim",
}
MODULES = {
    ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for package, folder in SOURCES.items()
    for path in sorted(folder.rglob("*.py"))
}
MODULE_LINES, FUNCTION_LINES, POSITIONAL, IN_A_FOLDER, LOOSE = 350, 60, 6, 20, 5


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def compiled(function: ast.AST) -> bool:
    """Numba takes neither keywords nor values of our own."""
    decorators = getattr(function, "decorator_list", [])
    return any("jit" in ast.unparse(decorator) or "intrinsic" in ast.unparse(decorator) for decorator in decorators)


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (item for item in ast.walk(node) if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_can_be_read_at_once(name: str):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(tree(name)) if f.end_lineno is not None}
    assert {function: lines for function, lines in long.items() if lines > FUNCTION_LINES} == {}


@pytest.mark.parametrize("name", [name for name in MODULES if ".solve.compiled" not in name])
def test_arguments_beyond_six_have_names(name: str):
    found = []
    for function in functions(tree(name)):
        arguments = [a for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "cls")]
        # a command's parameters are its flags, which Typer passes by name
        command = any("command" in ast.unparse(decorator) for decorator in function.decorator_list)
        if len(arguments) > POSITIONAL and not command:
            found.append(f"{function.name}: {len(arguments)} parameters")
    for call in ast.walk(tree(name)):
        if isinstance(call, ast.Call) and len(call.args) > POSITIONAL:
            found.append(f"line {call.lineno}: {len(call.args)} arguments")
    assert found == []


def test_folders_can_be_surveyed():
    folders: dict[Path, int] = {}
    for path in MODULES.values():
        folders[path.parent] = folders.get(path.parent, 0) + (path.name != "__init__.py")
    assert {str(folder.relative_to(ROOT)): n for folder, n in folders.items() if n > IN_A_FOLDER} == {}
    assert folders[SOURCES["streamptycho"]] <= LOOSE


def imported(name: str) -> set[str]:
    """Modules of ours that a module imports, wherever in its text; what only a type checker reads is left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update({f"{node.module}.{alias.name}" for alias in node.names} | {node.module})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree(name))
    return (found & MODULES.keys()) - {name}


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter({name: imported(name) for name in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
