"""The house keeps its own rules: lint, format, types, and the order of imports."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import featurestore
import heads

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports", "--no-logo"],
    ],
    ids=" ".join,
)
def test_tools(command):
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_licence_and_the_types_are_part_of_what_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert all((ROOT / file).is_file() for file in project["project"]["license-files"])
    packages = project["tool"]["mypy"]["packages"]
    assert all((ROOT / package / "py.typed").is_file() for package in packages)
    assert set(packages) <= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"])


SOURCES = [*ROOT.glob("featurestore/**/*.py"), *ROOT.glob("heads/**/*.py"), ROOT / "cli.py"]
ENTRY_POINTS = {*featurestore.__all__, *heads.__all__, "load_backbone"}
"""What users call. Their options stand in the signature, and each has its line in the docstring."""


def test_no_module_is_long():
    assert not {path: count for path in SOURCES if (count := len(path.read_text().splitlines())) > 400}


def test_no_function_is_long_or_takes_many_parameters():
    long, wide = {}, {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            name, words = f"{path.relative_to(ROOT)}: {node.name}", ast.get_docstring(node, clean=False) or ""
            entry = node.name in ENTRY_POINTS or path.name in ("cli.py", "stage_1.py", "options.py")
            lines = node.end_lineno - node.lineno + 1 - (len(words.splitlines()) if entry else 0)
            if lines > 60:
                long[name] = lines
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            entry = entry or (node.name == "__init__" and path.parent.name == "adapters")
            if len([each for each in parameters if each.arg not in ("self", "cls")]) > 8 and not entry:
                wide[name] = len(parameters)
    assert not long
    assert not wide


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import featurestore", ["sklearn", "keras", "tensorflow", "PIL", "scipy", "typer"]),
        ("import heads", ["sklearn", "keras", "tensorflow", "PIL", "scipy", "typer"]),
        ("import featurestore.extraction.extract, featurestore.pages.inspection", ["sklearn", "keras", "tensorflow"]),
        (
            "import heads.exporting.export, heads.prediction.writers, heads.finetuning.finetune, heads.demo",
            ["sklearn", "keras", "tensorflow"],
        ),
        ("import cli", ["sklearn", "keras", "tensorflow", "PIL", "scipy", "rich"]),
    ],
)
def test_importing_is_light(code, absent):
    check = f"import sys; {code}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
