"""README's examples do what it says: its files are written out and its commands run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ntmbench.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
TINY = [
    "--set=train.validation_sequences=8",
    "--set=train.curve_every=16",
    "--set=evaluate.sequences=8",
]


def block_after(words: str, language: str) -> str:
    """The first code block of `language` after `words`."""
    found = re.search(rf"```{language}\n(.*?)```", README[README.index(words) :], re.DOTALL)
    assert found, f"no {language} block after {words!r}"
    return found[1]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A folder with the files that README shows."""
    (tmp_path / "my_model.py").write_text(block_after("`my_model.py`:", "python"))
    (tmp_path / "my_tasks.py").write_text(block_after("`my_tasks.py`:", "python"))
    (tmp_path / "reverse.toml").write_text(block_after("`reverse.toml`:", "toml"))
    return tmp_path


def python(folder: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_example_runs(tmp_path: Path) -> None:
    printed = python(tmp_path, "-c", block_after("From Python:", "python"))
    assert printed == "(4, 21, 9) (4, 21, 8) (4, 21)\n"


def test_the_example_model_passes_the_check_and_runs(examples: Path) -> None:
    command = re.search(r'python -c "(.*check_model.*)"', README)
    assert command
    python(examples, "-c", command[1])
    arguments = [
        "run",
        "copy",
        "--model",
        "my_model:Elman",
        "--set",
        "model.hidden_size=16",
        "--sequences",
        "32",
    ]
    printed = python(examples, "-m", "ntmbench", *arguments, "--set=train.batch_size=16", *TINY)
    assert "length=120" in printed
    assert (examples / "results/copy/my_model.Elman/seed0/summary.json").is_file()


def test_the_example_task_passes_the_check_and_runs(examples: Path) -> None:
    command = re.search(r'python -c "(.*check_task.*)"', README)
    assert command
    python(examples, "-c", command[1])
    arguments = [
        "run",
        "reverse.toml",
        "--model",
        "lstm",
        "--set",
        "model.hidden_size=8",
        "--sequences",
        "32",
    ]
    assert "length=20" in python(examples, "-m", "ntmbench", *arguments, *TINY)


def test_every_command_and_file_that_readme_names_exists() -> None:
    root = Path(__file__).parent.parent
    places = [root, root / "scripts", *(path for path in (root / "ntmbench").glob("**/"))]
    for name in re.findall(r"\b(\w+\.(?:py|sh))\b", README[README.index("## The tree") :]):
        assert any((place / name).is_file() for place in places), f"README names {name}"
    verbs = set(re.findall(r"^ntmbench (\w+)", README, re.MULTILINE))
    assert verbs == set(main.commands)
