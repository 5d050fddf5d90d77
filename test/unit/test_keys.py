"""The list of keys against the configuration that it lists."""

from __future__ import annotations

from typing import Any

import pytest

from espnet_like.augment import AUGMENTATIONS
from espnet_like.bin import keys
from espnet_like.config import experiment, load_layers
from espnet_like.errors import UserError
from espnet_like.models import MODELS


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, list[str]]:
    """Key -> its columns."""
    keys.main(list(arguments))
    return {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, own in value.items() for k, v in leaves(own, f"{prefix}{key}.").items()}


def test_every_key_is_listed_and_its_default_is_that_of_the_configuration(capsys):
    found = printed(capsys)
    complete = experiment({"model": {"name": "crnn"}, "features": {"name": "upb"}}).resolved()
    for key, default in leaves(
        {k: complete[k] for k in ("audio", "data", "train", "seed")}
    ).items():
        key = key.rstrip(".")
        if key.startswith("train.schedule."):
            continue  # of a component
        assert key in found, key
        if isinstance(default, (bool, int, float)):
            layers = load_layers([], [f"--{key}", found[key][1]])
            assert leaves(layers) == {f"{key}.": default}
    assert {"train.pool", "train.pool.norm", "train.average.start", "store.limit"} <= found.keys()
    assert set(found["augment.name"][2:]) - {"|"} == set(AUGMENTATIONS)


@pytest.mark.parametrize(("kind", "registry"), [("augment", AUGMENTATIONS), ("model", MODELS)])
def test_defaults_of_a_component_say_what_it_is(kind, registry, capsys):
    for name in registry:
        chosen = {"model": {"name": "crnn"}, kind: {"name": name}}
        if name in ("chain", "one_of"):
            chosen[kind]["methods"] = [{"name": "mixup"}]
        default = getattr(experiment(chosen), kind)
        for key, (_, *columns) in printed(capsys, kind, name).items():
            if not key.endswith((".preset", ".methods")):
                assert key.removeprefix(f"{kind}.") in default
                if len(columns) == 2 and columns[0] not in ("null",):
                    given = load_layers([], [f"--{key}", columns[0]])
                    assert given[kind].items() <= default.items(), key


def test_part_of_the_list_and_what_is_not_there(capsys):
    assert all(key.startswith("train.pool") for key in printed(capsys, "train.pool"))
    for wrong in (["nothing"], ["augment", "mixupp"], ["model", "cp"], ["train", "pool"]):
        with pytest.raises(UserError):
            keys.main(wrong)
