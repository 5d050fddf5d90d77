"""The trainer: exact resume, pre-emption, bad losses, averaging, data in memory or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import tiny
import torch
import yaml
from tiny import assert_same, trained

from espnet_like.config import experiment, try_out
from espnet_like.errors import MissingInput, UserError
from espnet_like.files import read_json
from espnet_like.training import checkpoint, seeds
from espnet_like.training.ranks import Ranks
from espnet_like.training.runs import Run
from espnet_like.training.trainer import Trainer, _clock

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def reference(corpus, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Weights of an undisturbed run."""
    return trained(tmp_path_factory.mktemp("reference"), tiny.config(corpus))


def command(directory: Path, config, *extra: str) -> list[str]:
    path = directory.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config.resolved()))
    return [sys.executable, "-m", "espnet_like.bin.train", "--config", str(path),
            "--exp", str(directory), "--device", "cpu", *extra]  # fmt: skip


def start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_run_leaves_what_the_design_says(corpus, tmp_path):
    config = tiny.config(corpus, {"data": {"valid": str(corpus / "data/c/fold1/valid")}})
    run = Run(tmp_path / "run", config)
    run.train(CPU)
    run.infer(CPU)
    done = read_json(run.directory / "train.json")
    assert [row["epoch"] for row in done["history"]] == [1, 2, 3]
    assert [row["lr"] for row in done["history"]] == pytest.approx([1e-3, 1e-3, 5e-5])
    assert all(0 <= row["monitor_accuracy"] <= 1 for row in done["history"])
    assert done["steps"] == 15
    assert (run.directory / "scores" / "test.scp").read_text().count("\n") == 6
    assert list((run.directory / "events").iterdir())
    assert "left 00:00:00" in (run.directory / "train.log").read_text()
    assert read_json(run.directory / "env.json")["torch"] == torch.__version__


def test_the_written_configuration_trains_to_the_same_weights(corpus, reference, tmp_path):
    first = Run(tmp_path / "first", tiny.config(corpus))
    first.train(CPU)
    process = start(
        [sys.executable, "-m", "espnet_like.bin.train", "--device", "cpu",
         "--config", str(first.directory / "config.yaml"), "--exp", str(tmp_path / "second")]
    )  # fmt: skip
    assert process.wait() == 0, process.stdout.read()
    assert_same(
        safetensors.torch.load_file(tmp_path / "second/checkpoints/final.safetensors"), reference
    )


def test_killed_at_any_step_and_resumed_is_the_same(corpus, reference, tmp_path, monkeypatch):
    """Death in the middle of step n, for every n: nothing of the process survives but its files."""
    for fatal in range(1, 15, 3):
        directory = tmp_path / f"killed{fatal}"
        taken = 0
        step = Trainer._step

        def dying(self, batch, fatal=fatal, step=step):
            nonlocal taken
            taken += 1
            step(self, batch)
            if taken == fatal:
                raise KeyboardInterrupt  # leaves everything as SIGKILL would: no handler saves

        config = tiny.config(corpus, {"train": {"checkpoint_steps": 2}})
        monkeypatch.setattr(Trainer, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            Run(directory, config).train(CPU)
        monkeypatch.setattr(Trainer, "_step", step)
        torch.manual_seed(fatal)  # whatever state the new process starts in
        assert_same(trained(directory, config), reference)
        history = read_json(directory / "train.json")["history"]
        assert [row["epoch"] for row in history] == [1, 2, 3]


def test_sigkill_of_the_process(corpus, tmp_path):
    config = tiny.config(corpus, {"train": {"epochs": 40}})
    whole = trained(tmp_path / "whole", config)
    directory = tmp_path / "killed"
    process = start(command(directory, config))
    wait_for(directory / "checkpoints" / "last.pt", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (directory / "train.json").exists()
    assert_same(trained(directory, config), whole)


def test_sigterm_saves_and_exits_75(corpus, tmp_path):
    config = tiny.config(corpus, {"train": {"epochs": 40, "checkpoint_seconds": 1e9}})
    whole = trained(tmp_path / "whole", config)
    directory = tmp_path / "stopped"
    process = start(command(directory, config))
    wait_for(directory / "events", process)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75, process.stdout.read()
    assert (directory / "checkpoints" / "last.pt").exists()
    assert_same(trained(directory, config), whole)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if path.exists():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.parametrize("unequal", [False, True])
def test_memory_and_archives_give_the_same(tmp_path, unequal):
    root = tiny.make(tmp_path / "corpus", unequal)
    weights = [
        trained(tmp_path / f"run{i}", tiny.config(root, {"data": {"in_memory": memory},
                                                        "train": {"workers": workers}}))
        for i, (memory, workers) in enumerate(((True, 0), (False, 0), (False, 2)))
    ]  # fmt: skip
    assert_same(weights[0], weights[1])
    assert_same(weights[0], weights[2])


def test_a_loss_that_is_not_finite_stops_the_run(corpus, tmp_path, monkeypatch):
    step = Trainer._step

    def poisoned(self, batch):
        if (self.state.epoch, self.state.step) == (1, 2):
            batch = batch._replace(features=batch.features * float("nan"))
        step(self, batch)

    monkeypatch.setattr(Trainer, "_step", poisoned)
    run = Run(tmp_path / "run", tiny.config(corpus))
    with pytest.raises(UserError, match="loss is nan at epoch 2 step 3") as caught:
        run.train(CPU)
    assert caught.value.code == 1
    saved = torch.load(run.directory / "checkpoints" / "last.pt", weights_only=True)
    assert saved["state"]["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in saved["parts"]["model"].values())
    assert not (run.directory / "train.json").exists()


def test_fresh_runs_stay_and_stale_ones_are_moved_aside(corpus, tmp_path, capsys):
    run = Run(tmp_path / "run", tiny.config(corpus))
    assert not run.stale()  # nothing is there
    run.train(CPU)
    assert not run.stale()
    made = (run.directory / "train.json").stat().st_mtime_ns
    run.train(CPU)
    assert (run.directory / "train.json").stat().st_mtime_ns == made
    other = Run(run.directory, tiny.config(corpus, {"train": {"epochs": 1}}))
    assert other.stale() and not other.trained()
    other.train(CPU)
    assert not other.stale()
    assert "stale" in capsys.readouterr().out
    (aside,) = tmp_path.glob("run.stale-*")
    assert read_json(aside / "train.json")["epochs"] == 3
    assert read_json(run.directory / "train.json")["epochs"] == 1


def test_a_changed_label_makes_a_run_stale(tmp_path):
    root = tiny.make(tmp_path / "corpus")
    run = Run(tmp_path / "run", tiny.config(root))
    before = run.fingerprint()
    path = root / "data/c/fold1/train/utt2labels"
    path.write_text(path.read_text().replace("u00 c0", "u00 c1"))
    assert run.fingerprint() != before


def test_averaging_is_the_mean_of_the_chosen_epochs(corpus, tmp_path, monkeypatch):
    """Weights: plain mean over epochs; batch-norm statistics: plain mean over batches."""
    config = tiny.config(corpus, {"train": {"epochs": 5, "average": {"start": 1, "every": 2}}})
    seen = []
    end = Trainer._end_epoch

    def spying(self, events):
        seen.append({n: v.clone() for n, v in self.model.named_parameters()})
        end(self, events)

    monkeypatch.setattr(Trainer, "_end_epoch", spying)
    run = Run(tmp_path / "run", config)
    run.train(CPU)
    final = safetensors.torch.load_file(run.weights)
    for name in seen[0]:
        mean = torch.stack([seen[1][name], seen[3][name]]).mean(0)
        torch.testing.assert_close(final[name], mean)

    trainer = run._trainer("", CPU, Ranks())
    trainer.model.load_state_dict(final)
    batches = list(trainer._all_batches())
    inputs = []
    first = next(m for m in trainer.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    first.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        for batch in batches:
            trainer.model(batch.features, lengths=batch.lengths)
    mean = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
    names = {id(m): n for n, m in trainer.model.named_modules()}
    torch.testing.assert_close(final[f"{names[id(first)]}.running_mean"], mean)


def test_best_epoch_is_that_of_the_validation_part(corpus, tmp_path, monkeypatch):
    scripted = iter([0.2, 0.6, 0.4])
    found = lambda *_: ("accuracy", next(scripted))  # noqa: E731
    monkeypatch.setattr("espnet_like.training.trainer.overall", found)
    kept = []
    end = Trainer._end_epoch

    def spying(self, events):
        kept.append({n: v.clone() for n, v in self.model.state_dict().items()})
        end(self, events)

    monkeypatch.setattr(Trainer, "_end_epoch", spying)
    layers = {
        "data": {"valid": str(corpus / "data/c/fold1/valid")},
        "train": {"selection": "best_valid"},
    }
    assert_same(trained(tmp_path / "run", tiny.config(corpus, layers)), kept[1])
    assert read_json(tmp_path / "run" / "train.json")["best_epoch"] == 2


def test_the_last_weights_stay_where_the_epoch_is_chosen_over_all_folds(corpus, tmp_path):
    last = trained(tmp_path / "last", tiny.config(corpus))
    mean = tiny.config(corpus, {"train": {"selection": "best_mean"}})
    assert_same(trained(tmp_path / "mean", mean), last)
    history = read_json(tmp_path / "mean" / "train.json")["history"]
    assert len(history) == 3 and all("monitor_accuracy" in epoch for epoch in history)


def test_iterations_end_a_run(corpus, tmp_path):
    trained(tmp_path / "run", tiny.config(corpus, {"train": {"iterations": 7}}))
    assert read_json(tmp_path / "run" / "train.json")["steps"] == 7


def test_bf16_and_channels_last_stay_close(corpus, reference, tmp_path):
    layers = {"train": {"precision": "bf16", "channels_last": True}}
    weights = trained(tmp_path / "run", tiny.config(corpus, layers))
    for name, value in reference.items():
        if value.is_floating_point() and "running" not in name:
            assert (weights[name] - value).norm() < 0.2 * value.norm() + 0.1, name


@pytest.mark.parametrize("lost", ["checkpoints/final.safetensors", "env.json"])
def test_a_file_that_got_lost_is_made_again(corpus, tmp_path, lost):
    directory, config = tmp_path / "run", tiny.config(corpus)
    before = trained(directory, config)
    (directory / lost).unlink()
    assert not Run(directory, config).trained()
    assert_same(trained(directory, config), before)
    assert (directory / lost).is_file() and Run(directory, config).trained()


def test_a_second_process_is_kept_off_a_run(corpus, tmp_path, monkeypatch):
    run = Run(tmp_path / "run", tiny.config(corpus))
    refused, finish = [], Trainer._finish

    def second(self):
        finish(self)
        with pytest.raises(UserError, match="another process is training this run"):
            Run(tmp_path / "run", tiny.config(corpus)).train(CPU)
        refused.append(True)

    monkeypatch.setattr(Trainer, "_finish", second)
    run.train(CPU)
    assert refused


def test_two_ranks_agree(corpus, tmp_path):
    """Two processes of a job: one set of weights, close to that of one process.

    Batch norm sees half the batch on each rank, so equal is not to be expected. Ended on the way,
    they save, and go on where they were.
    """
    config = tiny.config(corpus, {"train": {"batch_size": 6, "epochs": 60}})
    directory = tmp_path / "run"
    arguments = command(directory, config, "--ngpu", "2")

    def run(until: str = "", send=os.killpg) -> tuple[int, str]:
        process = start(arguments, OMP_NUM_THREADS="1")
        said = ""
        while until and until not in said:
            said += process.stdout.readline()
        if until:
            send(process.pid, signal.SIGTERM)
        try:
            return process.wait(300), said + process.stdout.read()
        finally:
            process.kill()

    for send in (os.killpg, os.kill):  # to the group, as jobs are ended, and to the first alone
        code, output = run("clips/s", send)  # an epoch is over
        assert code == 75 and "saved after SIGTERM" in output, output
    code, output = run()
    assert code == 0 and "resume at epoch" in output, output
    done = read_json(directory / "train.json")
    assert (done["epochs"], done["steps"]) == (60, 180)
    assert done["history"][0]["loss"] == pytest.approx(1.386, abs=0.5)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"model": {"num_classes": 7}}, "set --model.num_classes 4"),
        ({"model": {"in_channels": 2}}, "set --model.in_channels 1"),
        ({"features": {"n_mels": 20}}, "made with n_mels 32"),
        ({"train": {"selection": "best_valid"}}, "give --valid"),
        ({"augment": {"layers": [1, 5]}}, "no layer 5; the model has 0 input, 1 stem"),
        ({"train": {"batch_size": 64, "drop_last": True}}, "64 clips a batch, .* has 18"),
    ],
)
def test_what_does_not_fit_is_said(corpus, tmp_path, layers, words):
    with pytest.raises(UserError, match=words):
        Run(tmp_path / "run", tiny.config(corpus, layers)).train(CPU)


def test_features_that_do_not_fit_the_model_are_said_before_anything_is_made():
    small = {"model": {"name": "cp_resnet", "base_width": 4}, "input_shape": [1, 16, 40]}
    other = {"model": {"name": "crnn", "num_bins": 40}, "input_shape": [1, 128, 40]}
    for layers, words in (
        (small, "16 bins and 40 frames do not fit cp_resnet"),
        (other, r"128 bins .* do not fit crnn \(made for 40 bins: set --model.num_bins 128\)"),
    ):
        with pytest.raises(UserError, match=words):
            try_out(experiment(layers))
    del other["model"]["num_bins"]
    assert experiment(other).model["num_bins"] == 128


def test_missing_inputs_name_the_stage(corpus, tmp_path):
    for key, stage in (("dump", "feats"), ("stats", "stats"), ("train", "data")):
        config = tiny.config(corpus, {"data": {key: str(tmp_path / "nowhere")}})
        with pytest.raises(MissingInput, match=f"run --stage {stage}"):
            Run(tmp_path / "run", config).train(CPU)
    with pytest.raises(MissingInput, match="run --stage train"):
        Run(tmp_path / "run", tiny.config(corpus)).infer(CPU)


def test_a_checkpoint_of_another_model_is_refused(corpus, tmp_path):
    run = Run(tmp_path / "run", tiny.config(corpus))
    run.train(CPU)
    model = run._trainer("", CPU, Ranks())
    other = tiny.config(corpus, {"model": {"base_width": 8}})
    wide = Run(tmp_path / "wide", other)._trainer("", CPU, Ranks())
    with pytest.raises(UserError, match=r"of another model: .* of another shape"):
        checkpoint.load_weights(run.weights, wide.model)
    run.weights.write_bytes(run.weights.read_bytes()[:100])
    with pytest.raises(UserError, match="not a whole weights file"):
        checkpoint.load_weights(run.weights, model.model)


def test_a_broken_checkpoint_is_refused(corpus, tmp_path):
    run = Run(tmp_path / "run", tiny.config(corpus))
    (run.directory / "checkpoints").mkdir(parents=True)
    (run.directory / "checkpoints" / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="not a whole checkpoint"):
        run.train(CPU)


def test_the_time_that_is_left_may_be_days():
    shown = [_clock(seconds) for seconds in (0, 59.6, 3600 * 50 + 61)]
    assert shown == ["00:00:00", "00:01:00", "50:01:01"]


def test_an_average_that_never_began_is_said(corpus, reference, tmp_path, caplog):
    layers = {"train": {"average": {"start": 100, "unit": "iteration"}}}
    weights = trained(tmp_path / "run", tiny.config(corpus, layers))
    assert_same(weights, reference)
    assert "train.average.start was not reached" in (tmp_path / "run/train.log").read_text()


def test_seeds_never_meet():
    drawn = {
        seeds.derive(*key)
        for key in [(s, p, e, n, r) for s in range(3) for p in range(4) for e in range(3)
                    for n in range(5) for r in range(2)]
    }  # fmt: skip
    assert len(drawn) == 3 * 4 * 3 * 5 * 2
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_result_of_a_run_is_json(corpus, tmp_path):
    Run(tmp_path / "run", tiny.config(corpus)).train(CPU)
    json.loads((tmp_path / "run" / "train.json").read_text(), parse_constant=pytest.fail)
