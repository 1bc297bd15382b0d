"""The document about deployment: what it names exists."""

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamptycho.config import load
from streamptycho_services import cli

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
FAILURES = re.findall(
    r"^\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$", TEXT.partition("## When something breaks")[2], re.MULTILINE
)


def names_in(path: Path) -> set[str]:
    """Names of all tests of a file, with their class."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{prefix}{member.name}" for member in members if isinstance(member, ast.FunctionDef)}
    return found


def test_the_table_of_failures_is_found():
    assert FAILURES[0][0].strip() == "what breaks"
    assert len(FAILURES) > 25


@pytest.mark.parametrize("row", FAILURES[2:], ids=lambda row: row[0].strip())
def test_each_failure_is_reproduced_by_a_test(row):
    what, seen, lost, remedy, test = (cell.strip() for cell in row)
    assert all((what, seen, lost, remedy))
    path, _, name = test.strip("`").partition("::")
    assert (ROOT / path).is_file(), path
    assert name in names_in(ROOT / path)
    assert Path(path).name.startswith("test_"), "or nobody runs it"
    assert name.rpartition("::")[2].startswith("test_")


@pytest.mark.parametrize(
    "setting", sorted(set(re.findall(r"`((?:log|match|write|services|engine|reconstruct|page|security)\.[a-z_]+)`", TEXT)))
)
def test_each_setting_exists(setting):
    table, name = setting.split(".")
    assert name in type(getattr(load(), table)).model_fields


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_each_piece_of_configuration_is_understood(example, tmp_path):
    (tmp_path / "example.toml").write_text(example)
    load(tmp_path / "example.toml")


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^streamptycho (\w+)", TEXT, re.MULTILINE))))
def test_each_command_exists(command):
    assert CliRunner().invoke(cli.app, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT))))
def test_each_link_leads_somewhere(link):
    assert (ROOT / "docs" / "how-to" / link).exists()
