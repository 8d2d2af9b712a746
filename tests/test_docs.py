"""The documentation says what is so: its commands and examples run, and its help texts are the program's own.

``python tests/test_docs.py`` writes docs/cli.md, and the tree of rooms in docs/design.md, anew.
"""

import ast
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from commands import ROOT, featurestore
from pictures import write_images
from typer.main import get_command
from typer.testing import CliRunner

from cli import app

README = (ROOT / "README.md").read_text()
CLI_PAGE, DESIGN_PAGE = ROOT / "docs" / "cli.md", ROOT / "docs" / "design.md"
COMMANDS = (
    "extract", "inspect", "info", "verify", "backbones", "import-backbone",
    "fit-head", "sweep", "adapt", "probe", "curve", "look-at", "evaluate", "predict", "explain", "report", "finetune",
    "export", "demo",
)  # fmt: skip


def cli_page() -> str:
    parts = ["# The command line\n\nWritten by `python tests/test_docs.py` from the program's own help texts."]
    for command in ("featurestore", *COMMANDS):
        done = featurestore(*([] if command == "featurestore" else [command]), "--help")
        assert done.returncode == 0, done.stderr
        text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        parts.append(f"## {command}\n\n```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def rooms() -> str:
    """The tree of rooms, with the first line of each docstring, and the modules of each room."""
    lines = []
    for package in ("featurestore", "heads"):
        folder = ROOT / package
        lines.append(f"{package}/  {first_line(folder / '__init__.py')}")
        lines += [f"  {path.stem}  {first_line(path)}" for path in sorted(folder.glob("[a-z]*.py"))]
        for room in sorted(path.parent for path in folder.glob("*/__init__.py")):
            lines.append(f"  {room.name}/  {first_line(room / '__init__.py')}")
            lines += ["      " + line for line in textwrap.wrap(" ".join(modules(room)), 100)]
    return "\n".join(lines)


def modules(room):
    for path in sorted(room.iterdir()):
        if path.suffix == ".py" and path.stem != "__init__":
            yield path.stem
        elif (path / "__init__.py").exists():
            yield f"{path.name}/"


def first_line(path):
    return ast.get_docstring(ast.parse(path.read_text())).partition("\n")[0]


def with_rooms(page: str) -> str:
    before, tree = page.split("```text rooms\n", 1)
    return f"{before}```text rooms\n{rooms()}\n```{tree.split('```', 1)[1]}"


def test_the_page_of_help_texts_is_up_to_date():
    assert CLI_PAGE.read_text() == cli_page(), "run  python tests/test_docs.py"


def test_the_tree_of_rooms_is_up_to_date():
    assert DESIGN_PAGE.read_text() == with_rooms(DESIGN_PAGE.read_text()), "run  python tests/test_docs.py"


def test_every_command_is_on_the_page():
    listed = featurestore("--help").stdout.split("Commands:")[1]
    assert tuple(re.findall(r"^  ([\w-]+)  ", listed, re.MULTILINE)) == COMMANDS


@pytest.fixture
def flowers(tmp_path):
    write_images(tmp_path / "flowers", 10, ("daisy", "roses", "tulips"))
    return tmp_path


def test_the_readmes_commands_run(flowers):
    (block,) = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    commands = [line.removeprefix("$ featurestore ") for line in block.splitlines()]
    assert len(commands) == 9
    for command in commands:
        done = featurestore(*command.split(), cwd=flowers)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout.strip()
    assert len(done.stdout.splitlines()) == 10  # a prediction for each rose


def recipes() -> list[list[str]]:
    pages = [ROOT / "docs" / "recipes.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)]
    return [block.strip().splitlines() for block in blocks]


def write_scenes(folder: Path) -> None:
    """Images with two labels, each in a cell and in columns, and with a number."""
    rows = ["file,labels,has_cat,has_dog,count"]
    for i, path in enumerate(sorted(write_images(folder, 20).rglob("*.png"))):
        cat, dog = i % 2, i // 2 % 2
        labels = "|".join(["cat"] * cat + ["dog"] * dog)
        rows.append(f"{path.relative_to(folder)},{labels},{cat},{dog},{i / 7:.2f}")
    (folder / "labels.csv").write_text("\n".join(rows))


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe[0].split()[3])
def test_the_recipes_run(recipe, tmp_path, monkeypatch):
    """On a few images, with random weights and small inputs; the folders are laid out as the data sets are."""
    monkeypatch.chdir(tmp_path)
    for name in ("flowers", "101_ObjectCategories"):
        write_images(tmp_path / name, 6, ("BACKGROUND_Google", "roses", "c", "d")[name == "flowers" :])
    for name, splits in (
        ("cats_dogs", ("train", "validation")),
        ("cifar10", ("train", "test")),
        ("xray", ("train", "test")),
    ):
        for seed, split in enumerate(splits):
            write_images(tmp_path / name / split, 5, ("one", "two"), seed)
    write_images(tmp_path / "dog_breeds" / "train", 6, ("pug", "boxer"))
    files = sorted((tmp_path / "dog_breeds" / "train").rglob("*.png"))
    rows = [f"{path.relative_to(tmp_path / 'dog_breeds' / 'train')},{path.parent.name}" for path in files]
    (tmp_path / "dog_breeds" / "labels.csv").write_text("\n".join(["id,breed", *rows]))
    write_scenes(tmp_path / "scenes")
    for line in recipe:
        arguments = shlex.split(line.removeprefix("$ featurestore "))
        if arguments[0] == "extract":
            arguments += ["--weights", "random", *([] if "--size" in arguments else ["--size", "75"])]
        if "fit-head" in arguments and "--head" in arguments:
            arguments += ["--set", "epochs=2"]
        done = CliRunner().invoke(app, arguments)  # in this process, where TensorFlow is imported once
        assert done.exit_code == 0, f"{line}: {done.output} {done.exception}"


def commands_of(page: Path) -> list[str]:
    """The lines of a page that call the program, in blocks of any kind, but for its own help texts."""
    blocks = re.findall(r"^(?:```\w*\n(.*?)^```|((?:^ {4}.*\n)+))", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = "\n".join(fenced or indented for fenced, indented in blocks).replace("\\\n", " ").splitlines()
    found = (re.match(r"\s*(?:\$ )?(?:\w+=\S+ )*(?:\S+/)?featurestore +([a-z].*)", line) for line in lines)
    return [match[1].partition(" # ")[0] for match in found if match]


PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path != CLI_PAGE
}


@pytest.mark.parametrize("page", [name for name, path in PAGES.items() if commands_of(path)])
def test_every_command_in_the_docs_is_one(page):
    """Its options exist, and take such values. Whether it runs is for the tests above, of those that can."""
    group = get_command(app)
    for line in commands_of(PAGES[page]):
        name, *arguments = shlex.split(line)
        assert name in group.commands, f"{page}: {line}"
        try:
            group.commands[name].make_context(name, arguments)
        except Exception as error:  # typer's own, which has no public name
            pytest.fail(f"{page}: {line}: {error}")


def test_a_wrong_command_would_be_found(tmp_path):
    page = tmp_path / "page.md"
    fenced = "```text\n$ featurestore sweep features --out run --metrik f1\n$ A=1 featurestore no\n```\n"
    page.write_text(f"{fenced}\n    featurestore info x\n")
    assert commands_of(page) == ["sweep features --out run --metrik f1", "no", "info x"]
    with pytest.raises(Exception, match="metrik"):
        get_command(app).commands["sweep"].make_context("sweep", commands_of(page)[0].split()[1:])


def test_the_readmes_python_runs(flowers):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], cwd=flowers, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(30, 1280) ('daisy', 'roses', 'tulips') " in done.stdout


def test_the_readme_and_ci_run_the_same_test_command():
    commands = re.findall(r"```bash\n(.*?)\n```", README, re.DOTALL)
    assert len(commands) == 2 and commands[1].endswith("bin/pytest")
    assert 'grep -m1 "bin/pytest$" README.md' in (ROOT / ".ci" / "run").read_text()


def test_links_lead_somewhere():
    for page in PAGES.values():
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_pictures_are_shown_and_small():
    """A clone that grows by a megabyte with each change of a picture is nothing that one wants."""
    pictures = list((ROOT / "docs" / "images").iterdir())
    text = "".join(page.read_text() for page in PAGES.values())
    assert pictures and [each.name for each in pictures if f"images/{each.name})" not in text] == []
    assert sum(each.stat().st_size for each in pictures) < 500_000


if __name__ == "__main__":
    CLI_PAGE.write_text(cli_page())
    DESIGN_PAGE.write_text(with_rooms(DESIGN_PAGE.read_text()))
