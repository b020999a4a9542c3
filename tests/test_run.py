"""Runs and their folders: what two processes, a full disk and a second asking cannot spoil."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import state_of, stopped_run
from torch import nn

from ntmbench import run as run_module
from ntmbench.cells import place
from ntmbench.compare import compare_runs
from ntmbench.config import LATER_ARGUMENTS, RunConfig, identity
from ntmbench.errors import UserError
from ntmbench.folder import RunFolder
from ntmbench.interrupt import Interrupt
from ntmbench.plugins import import_class
from ntmbench.resolve import resolve
from ntmbench.run import execute, folder_of
from ntmbench.saved import load_run, stored_config
from ntmbench.tasks import load_task
from ntmbench.train import Trainer
from ntmbench.weights import load_checkpoint, read_weights, save_checkpoint

TINY = (
    "train.batch_size=8",
    "train.curve_every=8",
    "train.validation_sequences=8",
    "train.checkpoint_every=8",
    "evaluate.sequences=8",
    "evaluate.points=[{length=3}]",
)


def tiny(*overrides: str, seed: int = 0, **options) -> RunConfig:
    settings = [*TINY, "model.hidden_size=4", *overrides]
    task = load_task("copy")
    return resolve(task, "lstm", seed=seed, sequences=24, overrides=settings, **options)


def done(out: Path, config: RunConfig, **options) -> RunFolder:
    """The folder of a run that was executed to its end."""
    folder = folder_of(out, config)
    list(execute(folder, config, Interrupt(), **options))
    return folder


def content(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}


def test_a_run_that_another_process_completes_meanwhile_is_left_alone(tmp_path, monkeypatch):
    """The other one finishes between our first look and our getting hold of the folder."""
    config = tiny()
    folder = folder_of(tmp_path, config)
    made = run_module.Trainer

    def slow(config):
        monkeypatch.setattr(run_module, "Trainer", made)
        done(tmp_path, config)
        slow.seen = content(folder)
        return made(config)

    monkeypatch.setattr(run_module, "Trainer", slow)
    assert list(execute(folder, config, Interrupt())) == []
    assert folder.complete and content(folder) == slow.seen


def test_an_overwrite_that_cannot_begin_puts_the_old_run_back(tmp_path, monkeypatch):
    folder = done(tmp_path, tiny())
    (folder.path / "notes.txt").write_text("the user's own")
    before = content(folder)

    def full(path, content):
        raise UserError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(run_module, "write_json", full)
    with pytest.raises(UserError, match="No space left"):
        done(tmp_path, tiny("train.momentum=0.5"), overwrite=True)
    assert content(folder) == before
    assert [path.name for path in folder.path.parent.iterdir()] == ["seed0"]


def test_a_run_without_a_checkpoint_begins_again(tmp_path):
    config = tiny()
    folder = folder_of(tmp_path, config)
    events = execute(folder, config, Interrupt())
    while not folder.checkpoint_file.exists():
        next(events)
    events.close()
    folder.checkpoint_file.unlink()
    again = list(execute(folder, config, Interrupt()))
    assert again[0].sequences == 0
    other = done(tmp_path / "other", config)
    assert folder.weights_file("last").read_bytes() == other.weights_file("last").read_bytes()
    assert len(folder.curve_file.read_text().splitlines()) == 4


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    """It has the same shapes, and would go on as if nothing were amiss."""
    folders = []
    for seed in (0, 1):
        config = tiny(seed=seed)
        folders.append(folder_of(tmp_path, config))
        events = execute(folders[-1], config, Interrupt())
        while not folders[-1].checkpoint_file.exists():
            next(events)
        events.close()
    folders[0].checkpoint_file.write_bytes(folders[1].checkpoint_file.read_bytes())
    with pytest.raises(UserError, match="another configuration or seed"):
        list(execute(folders[0], tiny(seed=0), Interrupt()))


def test_files_that_a_crash_left_are_removed(tmp_path):
    folder = folder_of(tmp_path, tiny())
    folder.path.mkdir(parents=True)
    (folder.path / ".checkpoint.pt.123.tmp").write_text("half")
    done(tmp_path, tiny())
    assert not list(folder.path.glob(".*"))


def snapshots_of(folder: RunFolder) -> dict[int, bytes]:
    return {sequences: path.read_bytes() for sequences, path in folder.snapshots.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    """An NTM of 200 sequences in batches of 8, never stopped; only to be read."""
    return RunFolder(stopped_run(tmp_path_factory.mktemp("whole"), None))


def go_on(folder: RunFolder, **options) -> None:
    list(execute(folder, stored_config(folder), Interrupt(), **options))


def test_a_run_keeps_its_weights_on_the_way(whole):
    kept = snapshots_of(whole)
    assert list(kept) == [0, 104, 144] and len(set(kept.values())) == 3
    config = stored_config(whole)
    first = {name: value.clone() for name, value in Trainer(config).model.state_dict().items()}
    for name, value in read_weights(whole.snapshot_file(0)).items():
        assert torch.equal(value, first[name])


@pytest.mark.parametrize("points", [4, 6, 8])
def test_snapshots_after_the_checkpoint_are_made_again(points, whole, tmp_path):
    """Stopped after 80, 120 or 160 sequences; what a crash left behind is of no account."""
    folder = RunFolder(stopped_run(tmp_path, points))
    stopped = 20 * points
    assert list(folder.snapshots) == [n for n in (0, 104, 144) if n <= stopped + 8]
    folder.snapshots_folder.mkdir(exist_ok=True)
    for sequences in (152, 176, 9999):
        if sequences > stopped + 8:
            folder.snapshot_file(sequences).write_bytes(b"of a run that went on from here")
    (folder.snapshots_folder / "notes.txt").write_text("the user's own")
    go_on(folder)
    assert folder.complete and snapshots_of(folder) == snapshots_of(whole)
    assert (folder.snapshots_folder / "notes.txt").exists()
    assert folder.trace_file.read_bytes() == whole.trace_file.read_bytes()


def test_without_a_checkpoint_all_snapshots_are_made_again(whole, tmp_path):
    folder = RunFolder(stopped_run(tmp_path, 8))
    folder.checkpoint_file.unlink()
    for path in folder.snapshots.values():
        path.write_bytes(b"half")
    go_on(folder)
    assert snapshots_of(folder) == snapshots_of(whole)


def test_a_run_replaced_keeps_none_of_the_others_snapshots(whole, tmp_path):
    folder = RunFolder(tmp_path / "copy/ntm/seed0")
    shutil.copytree(whole.path, folder.path)
    (folder.path / "trace-length=5.gif").write_bytes(b"")
    folder.evals_file.write_text("")
    folder.snapshot_file(150).write_bytes(b"")
    other = dataclasses.replace(stored_config(whole), seed=3)
    other = dataclasses.replace(other, train=dataclasses.replace(other.train, sequences=130))
    list(execute(folder, other, Interrupt(), overwrite=True))
    assert list(folder.snapshots) == [0, 104]
    assert snapshots_of(folder)[104] != snapshots_of(whole)[104]
    assert not folder.evals_file.exists() and not list(folder.path.glob("trace-*"))
    assert not list(folder.path.parent.glob(".*"))


def test_a_failed_replacement_puts_snapshots_and_pictures_back(whole, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "copy/ntm/seed0")
    shutil.copytree(whole.path, folder.path)
    (folder.path / "trace-length=5.gif").write_bytes(b"a picture")
    before = state_of(tmp_path)

    def fail(*_):
        raise UserError("no space")

    monkeypatch.setattr(run_module, "write_json", fail)
    with pytest.raises(UserError, match="no space"):
        go_on(folder, overwrite=True)
    assert state_of(tmp_path) == before


def test_how_many_snapshots_does_not_set_a_run_apart(whole, tmp_path):
    folder = RunFolder(tmp_path / "copy/ntm/seed0")
    shutil.copytree(whole.path, folder.path)
    config = stored_config(whole)
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, snapshots=0))
    assert list(execute(folder, other, Interrupt())) == []
    assert snapshots_of(folder) == snapshots_of(whole)


def test_different_runs_cannot_share_a_folder(tmp_path, capsys):
    task = (Path(__file__).parent.parent / "tasks/copy.toml").read_text()
    configs = []
    for width in (8, 3):
        path = tmp_path / str(width) / "mine.toml"
        path.parent.mkdir()
        path.write_text(task.replace("width = 8", f"width = {width}"))
        configs.append(resolve(load_task(str(path)), "lstm", seed=0))
    with pytest.raises(UserError, match="two different runs would share"):
        place(configs, tmp_path, overwrite=False, keep=["device"])
    cells = place([configs[0], configs[0]], tmp_path, overwrite=False, keep=["device"])
    assert len(cells) == 1
    assert "asked for twice, done once" in capsys.readouterr().err


def test_a_run_goes_on_where_it_was_begun(tmp_path):
    """With the device left to us, one that was begun on the CPU stays there."""
    folder = done(tmp_path, tiny())
    on_cuda = dataclasses.replace(tiny(), device="cuda")
    cells = place([on_cuda], tmp_path, overwrite=False, keep=["device"])
    assert cells[folder].device == "cpu"
    with pytest.raises(UserError, match="device is 'cpu' there, 'cuda' here"):
        place([on_cuda], tmp_path, overwrite=False, keep=[])


def test_what_cannot_change_a_number_does_not_set_a_run_apart(tmp_path):
    config = tiny()
    folder = done(tmp_path, config)
    reworded = dataclasses.replace(
        config,
        task=dataclasses.replace(config.task, summary="in other words", source="elsewhere"),
        train=dataclasses.replace(config.train, checkpoint_every=7),
        paper=dataclasses.replace(config.paper, loss_bits=[]),
    )
    assert list(execute(folder, reworded, Interrupt())) == []
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, momentum=0.5))
    with pytest.raises(UserError, match=r"train\.momentum is 0\.9 there, 0\.5 here"):
        list(execute(folder, other, Interrupt()))


def test_a_key_that_is_added_with_a_default_does_not_set_old_runs_apart():
    old = tiny().to_dict()
    del old["train"]["momentum"], old["evaluate"]["batch_size"]
    assert identity(old) == identity(tiny().to_dict())


def test_a_keyword_that_a_model_was_given_later_does_not_set_old_runs_apart():
    """What LATER_ARGUMENTS says they ran with is what the constructors do without them."""
    for target, later in LATER_ARGUMENTS.items():
        parameters = inspect.signature(import_class(target, "model")).parameters
        assert later == {name: parameters[name].default for name in later}
    new = resolve(load_task("copy"), "ntm", seed=0).to_dict()
    new["model"]["arguments"] |= LATER_ARGUMENTS[new["model"]["target"]]
    old = copy.deepcopy(new)
    for name in LATER_ARGUMENTS[new["model"]["target"]]:
        del old["model"]["arguments"][name]
    assert identity(old) == identity(new)
    new["model"]["arguments"]["beta_bias"] = 3.0
    assert identity(old) != identity(new)


def test_a_checkpoint_is_read_to_the_cpu(tmp_path, monkeypatch):
    """Random states must be there; the model and the optimiser take the rest where they are."""
    asked = []
    load = torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: asked.append(k["map_location"]) or load(*a, **k)
    )
    save_checkpoint(tmp_path / "c", {"torch_rng": torch.get_rng_state()})
    load_checkpoint(tmp_path / "c")
    assert asked == ["cpu"]


class NotANumber(nn.Module):
    """A model whose logits are NaN: it diverges at once and never validates."""

    def __init__(self, input_size, output_size, *, hidden_size: int = 1):
        super().__init__()
        self.layer = nn.Linear(input_size, output_size)

    def initial_state(self, batch_size):
        return torch.zeros(batch_size)

    def forward(self, inputs_BTI, state=None):
        return self.layer(inputs_BTI) * math.nan, self.initial_state(len(inputs_BTI))


@pytest.fixture
def diverged(tmp_path) -> RunFolder:
    config = resolve(
        load_task("copy"),
        f"{__name__}:NotANumber",
        seed=0,
        sequences=24,
        overrides=[*TINY, "train.diverged_after=2"],
    )
    return done(tmp_path, config)


def test_a_run_that_never_validated_has_no_best_weights(diverged):
    summary = json.loads(diverged.summary_file.read_text())
    assert summary["status"] == "diverged" and summary["best"] is None
    assert summary["diverged"] == {"sequences": 0, "updates": 0, "tensor": "logits"}
    assert not diverged.weights_file("best").exists()
    loaded = load_run(diverged.path)
    assert {row["weights"] for row in loaded.lengths} == {"last", "chance", "optimum"}
    with pytest.raises(UserError, match="no best weights"):
        loaded.model("best")
    assert isinstance(loaded.model("last"), nn.Module)


def test_a_diverged_run_cannot_be_compared_in_silence(diverged, tmp_path):
    whole = load_run(done(tmp_path, tiny()).path)
    with pytest.raises(UserError, match="finite in both"):
        compare_runs(whole, load_run(diverged.path), "last")


def test_a_comparison_says_how_many_sequences_it_leaves_out(tmp_path, monkeypatch):
    whole = load_run(done(tmp_path, tiny()).path)
    from ntmbench import compare

    score, calls = compare.score_model, []

    def torn(*arguments):
        found = score(*arguments)
        calls.append(found)
        if len(calls) == 2:
            found.loss_bits[:3] = math.nan
        return found

    monkeypatch.setattr(compare, "score_model", torn)
    rows = compare_runs(whole, whole)
    assert [(row["sequences"], row["left_out"]) for row in rows] == [(5, 3), (8, 0), (8, 0)]
    assert rows[0]["difference"] == 0


@pytest.mark.parametrize("where", ["recipes", "profiles.smoke.recipes"])
def test_a_recipe_must_name_a_model(where, tmp_path):
    task = (Path(__file__).parent.parent / "tasks/copy.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(f"{task}\n[{where}.lsmt.train]\nmomentum = 0.5\n")
    with pytest.raises(UserError, match=r"mine\.toml: .*lsmt.*did you mean 'lstm'"):
        load_task(str(path))
    path.write_text(f"{task}\n[recipes.ntm-lstm.model]\nheads = 3\n")
    config = resolve(load_task(str(path)), "ntm", seed=0)
    assert config.model.arguments["heads"] == 3


def test_points_are_given_once():
    with pytest.raises(UserError, match="given once"):
        tiny("evaluate.points=[{length=3}, {length=3}]")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_fits_a_table(seed):
    with pytest.raises(UserError, match="seed must be 0 to"):
        tiny(seed=seed)


BROKEN = {
    "sample raises": ("return 1 / 0", "ZeroDivisionError"),
    "no batch": ("return 1, 2, 3", "must give an ntmbench.generators.Batch"),
    "float64": ("return Batch(*(part.astype(float) for part in batch))", "must be float32"),
    "backwards": ("return batch._replace(mask_BT=batch.mask_BT[:, ::-1])", "backwards"),
    "no step": ("return batch._replace(mask_BT=batch.mask_BT * 0)", "no scored step"),
    "a step short": ("return batch._replace(mask_BT=batch.mask_BT[:, 1:])", "must have shape"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_generator_is_named_before_anything_is_written(broken, tmp_path, monkeypatch):
    line, words = BROKEN[broken]
    name = f"broken_generator_{list(BROKEN).index(broken)}"
    (tmp_path / f"{name}.py").write_text(
        "from dataclasses import dataclass\n"
        "from ntmbench.generators import Batch, Copy\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Broken(Copy):\n"
        "    def sample(self, rng, batch_size, *, length):\n"
        "        batch = super(Broken, self).sample(rng, batch_size, length=length)\n"
        f"        {line}\n"
    )
    task = (Path(__file__).parent.parent / "tasks/copy.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(task.replace("ntmbench.generators:Copy", f"{name}:Broken"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=rf"mine\.toml: generator Broken .*{words}.*check_task"):
        load_task(str(path))
