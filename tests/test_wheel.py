"""The wheel holds everything: built, installed into an empty folder, run from another."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import environment

import ntmbench
from ntmbench.tasks import task_folder, task_names

pytest.importorskip("hatchling")
ROOT = Path(__file__).parent.parent

if not (ROOT / "pyproject.toml").exists():
    pytest.skip("these tests need the source tree", allow_module_level=True)


def python(folder: Path, *arguments: object, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1", **variables),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree, built without a network."""
    out = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", out)
    python(out, "-m", "pip", "wheel", ROOT, *options)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which nothing but the wheel is installed."""
    folder = tmp_path_factory.mktemp("target")
    python(folder, "-m", "pip", "install", "--no-deps", "--target", folder, wheel)
    return folder


def test_the_wheel_holds_the_package_and_the_tasks_alone(wheel) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"ntmbench", f"ntmbench-{ntmbench.__version__}.dist-info"}
    source = Path(ntmbench.__file__).parent
    modules = {f"ntmbench/{path.relative_to(source)}" for path in source.rglob("*.py")}
    assert modules and modules <= set(names)
    inside = {name for name in names if name.startswith("ntmbench/_tasks/")}
    assert inside == {f"ntmbench/_tasks/{name}.toml" for name in task_names()}
    for name in inside:
        text = zipfile.ZipFile(wheel).read(name)
        assert text == (task_folder() / Path(name).name).read_bytes()


def test_the_wheel_says_what_it_needs(wheel) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    text = archive.read(name).decode()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for dependency in declared:
        assert f"Requires-Dist: {dependency.split('>')[0]}" in text
    assert f"Version: {ntmbench.__version__}" in text


def test_the_installed_package_runs_from_an_empty_folder(target, tmp_path) -> None:
    """The package that runs is the installed one, and so are its tasks."""
    code = (
        "import ntmbench, ntmbench.tasks as t; print(ntmbench.__file__); print(t.task_folder());"
        "import ntmbench.cli; ntmbench.cli.main(['list', '--json'])"
    )
    module, tasks, *rest = python(tmp_path, "-c", code, PYTHONPATH=str(target)).splitlines()
    assert Path(module) == target / "ntmbench" / "__init__.py"
    assert Path(tasks) == target / "ntmbench" / "_tasks"
    listed = [task["name"] for task in json.loads("\n".join(rest))["tasks"]]
    assert listed == task_names() and len(listed) == 5

    settings = ("--set", "train.validation_sequences=4", "--set", "evaluate.sequences=4")
    points = ("--set", "evaluate.points=[{length=3}]", "--sequences", "8", "--profile", "smoke")
    run = ("run", "copy", "--model", "ntm", *settings, *points, "--json")
    (shown,) = json.loads(python(tmp_path, "-m", "ntmbench", *run, PYTHONPATH=str(target)))
    assert shown["model"] == "ntm@smoke" and shown["summary"]["sequences"] == 8
    assert shown["summary"]["environment"]["commit"] is None, "it took the checkout for itself"
    assert (tmp_path / shown["folder"] / "summary.json").exists()
