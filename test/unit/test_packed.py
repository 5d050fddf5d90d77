"""The stored form: nothing lost, nothing left to chance, small, and broken files are said."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
from torch import Tensor

from espnet_like.bin import compress
from espnet_like.bin.compress import compare, store
from espnet_like.bin.pack import pack as pack_classifier
from espnet_like.compress.packed import MAGIC, is_packed, load_packed, pack, rounded
from espnet_like.compress.pruning import prune
from espnet_like.data.ark import ArkReader
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned
from espnet_like.files import read_json
from espnet_like.inference import Classifier
from espnet_like.models import CPResNet
from espnet_like.training.checkpoint import load_weights
from espnet_like.training.runs import Run

CPU = torch.device("cpu")


def odd_weights() -> dict[str, Tensor]:
    """What a state dict may hold, and what fp16 may not."""
    torch.manual_seed(0)
    sparse = torch.randn(7, 5, 3, 3).half().float()
    sparse[torch.rand(sparse.shape) < 0.6] = 0.0
    return {
        "sparse": sparse,
        "dense": torch.randn(11).half().float(),
        "fp32": torch.randn(9),
        "large": torch.tensor([1e6, 0.0, -3.0]),
        "signs": torch.tensor([0.0, -0.0, 1.0, -0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        "strange": torch.tensor([float("nan"), float("inf"), float("-inf"), 6e-8]),
        "zeros": torch.zeros(2, 3),
        "nothing": torch.zeros(0, 4),
        "scalar": torch.tensor(12),
        "one": torch.tensor(0.5),
        "double": torch.randn(4, dtype=torch.float64),
        "half": torch.randn(4).half(),
        "bfloat16": torch.randn(4).bfloat16(),
        "flags": torch.tensor([True, False]),
        "permuted": torch.randn(2, 3, 4, 5).half().float().permute(0, 2, 3, 1),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }


def written(path: Path, weights: dict[str, Tensor], **metadata: object) -> Path:
    path.write_bytes(pack(weights, metadata))
    return path


def same_bits(a: Tensor, b: Tensor) -> bool:
    return (a.dtype, a.shape) == (b.dtype, b.shape) and (
        a.contiguous().view(torch.uint8).tolist() == b.contiguous().view(torch.uint8).tolist()
        if a.ndim
        else same_bits(a[None], b[None])
    )


def test_what_is_read_is_what_was_written_bit_for_bit(tmp_path):
    weights = odd_weights()
    found, metadata = load_packed(written(tmp_path / "w", weights, made="here", n=[1, 2]))
    assert list(found) == list(weights)
    assert [name for name in weights if not same_bits(found[name], weights[name])] == []
    assert metadata == {"made": "here", "n": [1, 2]}


def test_the_same_weights_make_the_same_bytes():
    assert pack(odd_weights(), {"a": 1, "b": 2}) == pack(odd_weights(), {"b": 2, "a": 1})


def test_rounding_is_that_of_fp16():
    x = torch.randn(1000) * 10 ** torch.linspace(-9, 4, 1000)
    found = rounded({"x": x, "large": torch.tensor([70000.0, 0.1]), "n": torch.tensor(3)})
    assert torch.equal(found["x"], torch.from_numpy(x.numpy().astype(np.float16)).float())
    assert found["large"].tolist() == torch.tensor([70000.0, 0.1]).tolist()
    assert found["n"] == 3


@pytest.mark.parametrize("significand", [2, 5, 8, 10])
def test_fewer_bits_are_the_nearest_values_of_so_many(significand):
    x = torch.randn(500)
    found = rounded({"x": x}, significand)["x"]
    for value, near in zip(x.tolist(), found.tolist(), strict=True):
        step = 2.0 ** (np.floor(np.log2(abs(value))) + 1 - significand)
        assert abs(near - value) <= step / 2 and near % step == 0
    assert len(pack({"x": found}, {})) < len(pack(rounded({"x": x}), {}))


def test_sixty_per_cent_pruned_is_much_smaller_than_dense_fp16():
    """The values at 15 bits each, the places at 1 bit a weight, and little else."""
    torch.manual_seed(0)
    model = CPResNet(num_classes=3, in_channels=2, base_width=32, rho=5, init="default")
    masks = prune(model, 0.6)
    weights = rounded(model.state_dict())
    places = sum(m.numel() for m in masks.values())
    values = sum(int(w.count_nonzero()) for w in weights.values())
    assert len(pack(weights, {})) < (15 * values + places) / 8 + 5000
    assert len(pack(weights, {})) < 0.6 * 2 * places


def test_broken_and_foreign_files_are_one_line(tmp_path):
    path = written(tmp_path / "w.packed", odd_weights())
    whole = path.read_bytes()
    assert is_packed(path)
    broken = {
        "cut or changed": whole[:-1],
        "cut or changed (its": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        "not a packed model": b"PK" + whole,
        "not a packed model of this version": whole.replace(b"packed 1", b"packed 2"),
    }
    for words, data in broken.items():
        path.write_bytes(data)
        with pytest.raises(UserError) as caught:
            load_packed(path)
        assert words in str(caught.value) and "w.packed" in str(caught.value)
        assert "run --stage compress" in str(caught.value)
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(2)}))
    assert not is_packed(path)
    with pytest.raises(MissingInput, match="run --stage compress"):
        load_packed(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "header",
    [
        "no json",
        "{}",
        '{"metadata": {}, "streams": [0, 0, 0, 0], "tensors": [["x", "float32", [4], "dense"]]}',
        '{"metadata": {}, "streams": [0, 0, 0, 0], "tensors": [["x", "float99", [4], "other"]]}',
        '{"metadata": {}, "streams": [9, 9], "tensors": []}',
    ],
)
def test_a_file_with_a_wrong_header_and_a_right_checksum(tmp_path, header):
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = coder.compress(header.encode()) + coder.flush()
    rest = len(text).to_bytes(4, "little") + text
    path = tmp_path / "w.packed"
    path.write_bytes(MAGIC + hashlib.sha256(rest).digest() + rest)
    with pytest.raises(UserError, match="cut or changed"):
        load_packed(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A trained, pruned and stored run."""
    root = tiny.make(tmp_path_factory.mktemp("corpus"))
    tiny.trained(root / "exp" / "dense", tiny.config(root))
    layers = {
        "train": {"init": {"weights": str(root / "exp" / "dense")}, "prune": {"amount": 0.6}},
        "store": {"limit": 20000},
    }
    run = Run(root / "exp" / "pruned", tiny.config(root, layers))
    run.train(CPU)
    with pytest.raises(MissingInput, match="run --stage compress"):
        run.infer(CPU)
    store(run)
    return run


def test_what_is_scored_is_the_stored_form(run):
    run.infer(CPU)
    result = read_json(run.directory / "scores" / "test.json")
    assert result["bytes"] == run.weights.stat().st_size == result["size"]["file"]["bytes"]
    trained = safetensors.torch.load_file(run.trained_weights)
    found, _ = load_packed(run.weights)
    assert not all(torch.equal(found[n], w) for n, w in trained.items())
    model = run.model(run.weights, CPU)
    for name, value in model.state_dict().items():
        expected = trained[name]
        if value.dtype == torch.float32:
            expected = expected.half().float()
        assert torch.equal(value, expected), name
    report = compare(run, CPU)
    scored = ArkReader(run.directory / "scores" / "test.scp")
    data = DataDir.load(run.config.data.test)
    right = [data.labels[scored[u].argmax()] == data.tags[u][0] for u in data.utterances]
    assert report["accuracy"] == sum(right) / len(right)
    assert 0 < report["largest_difference"] < 0.05
    assert report["significand"] == 11


def test_a_run_of_another_recipe_is_stored_by_hand(run, tmp_path, capsys):
    dense = run.directory.with_name("dense")
    compress.main(["--run", str(dense), "--store.significand", "9", "--device", "cpu"])
    told = capsys.readouterr().out
    assert "9 bits of precision" in told and "file on disk" in told
    assert load_packed(dense / "checkpoints" / "final.packed")[1]["significand"] == 9
    for options in ([], ["--run", str(dense), "--plan", "list"]):
        with pytest.raises(UserError, match="give --plan LIST, or --run"):
            compress.main(options)
    with pytest.raises(UserError, match="no such configuration"):
        compress.main(["--run", str(tmp_path)])
    untrained = Run(tmp_path / "run", run.config)
    with pytest.raises(MissingInput, match="run --stage prune"):
        store(untrained)


def test_other_storage_remakes_the_file_and_not_the_training(run):
    other = Run(run.directory, tiny.config(run.directory.parents[1], {
        "train": {**run.config.resolved()["train"]}, "store": {"significand": 6}}))  # fmt: skip
    assert other.trained() and not other.stored()
    store(other)
    assert other.stored() and not run.stored()
    store(run)
    assert run.stored()


def test_precision_is_given_up_to_keep_the_limit(run):
    size = run.weights.stat().st_size
    layers = {"train": run.config.resolved()["train"], "store": {"limit": size - 200}}
    tight = Run(run.directory, tiny.config(run.directory.parents[1], layers))
    store(tight)
    assert tight.weights.stat().st_size <= size - 200
    assert load_packed(tight.weights)[1]["significand"] < 11
    layers["store"]["limit"] = 500
    with pytest.raises(UserError, match=r"store\.limit is 500"):
        store(Run(run.directory, tiny.config(run.directory.parents[1], layers)))
    store(run)


def test_a_classifier_reads_a_packed_model(run, tmp_path):
    planned = Planned("row", "small", "none", 1, 0, run.directory, run.config)
    directory = pack_classifier(planned)
    assert not (directory / "model.safetensors").exists()
    assert is_packed(directory / "model.packed")
    classifier = Classifier.load(directory)
    stored, _ = load_packed(run.weights)
    for name, value in classifier.model.state_dict().items():
        assert torch.equal(value, stored[name])
    assert read_json(directory / "settings.json")["labels"] == list(classifier.labels)
    (directory / "model.packed").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"model\.packed"):
        Classifier.load(directory)


def test_weights_of_another_model_are_refused(run):
    with pytest.raises(UserError, match="a checkpoint of another model"):
        load_weights(run.weights, CPResNet(num_classes=4, base_width=8, rho=2))


def test_metadata_is_json(run):
    metadata = load_packed(run.weights)[1]
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["weights"] == read_json(run.directory / "train.json")["weights"]
