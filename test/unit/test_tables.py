"""The recipes' table files: their rows can be run, and published values agree with one another."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from espnet_like.config import experiment, load_layers, try_out
from espnet_like.experiments.runs import Place, row_config, run_name
from espnet_like.experiments.tables import Row, Table, read_tables
from espnet_like.registry import build
from espnet_like.training.averaging import WeightAverage
from espnet_like.training.schedules import SCHEDULES

EGS = Path(__file__).resolve().parents[2] / "egs"
RECIPES = sorted({path.parents[2].name for path in EGS.glob("*/conf/tables/*.yaml")})


@cache
def tables_of(recipe: str) -> dict[str, Table]:
    return read_tables(EGS / recipe / "conf")


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_are_configurations_of_their_own(recipe: str) -> None:
    place = Place(EGS / recipe / "conf", Path("d"), Path("e"), Path("x"), "c", (1,))
    kinds: dict[tuple[object, ...], tuple[Table, Row]] = {}
    for table in tables_of(recipe).values():
        rows = [row for row in table.rows if row.augment]
        assert len({run_name(place, table, row) for row in rows}) == len(rows)
        for row in rows:
            parts = (row.model or table.model, row.augment, row.train or table.train, row.init)
            kinds[(*parts, *row.overrides)] = (table, row)
        assert all(row.source for row in table.rows if row.published is not None)
        if table.figure:
            lines = {row.augment for row in table.rows if table.figure.x in row.overrides}
            assert lines == set(table.figure.lines)
    for table, row in kinds.values():  # the others differ in a number
        assert row_config(place, table, row).model["name"]


NETWORKS = sorted(path.stem for path in EGS.glob("common/conf/model/*.yaml"))


@pytest.mark.parametrize(
    "recipe", sorted(path.parents[1].name for path in EGS.glob("*/conf/features.yaml"))
)
def test_any_network_takes_the_features_of_any_corpus(recipe: str) -> None:
    for network in NETWORKS:
        if not network.startswith("ssast"):  # it has a front end of its own
            path = EGS / "common" / "conf" / "model" / f"{network}.yaml"
            config = experiment(load_layers([EGS / recipe / "conf" / "features.yaml", path]))
            try_out(config)
            assert config.model["num_classes"] > 1


def published(recipe: str, stem: str) -> dict[str, float]:
    table = tables_of(recipe)[stem]
    return {row.name: row.published for row in table.rows if row.published is not None}


def test_what_stands_twice_in_the_paper_is_the_same_twice() -> None:
    """Figure 2's 10 % points and Table 3's set of all layers are Table 2's rows."""
    methods, layers = published("dcase19", "table2"), published("dcase19", "table3")
    for mode in ("ZM", "MM", "CM"):
        value = methods[f"SpecAugment++ ({mode})"]
        assert layers[f"{mode} {{0, 1, 2, 3, 4}}"] == value
        for axis in ("time", "freq"):
            assert published("dcase19", f"figure2_{axis}")[f"{mode} 10 %"] == value
    for stem in ("table3", "figure2_time", "figure2_freq"):
        assert published("dcase19", stem)["none"] == methods["none"]


def test_accuracy_is_the_mean_over_the_classes_printed_beside_it() -> None:
    table = tables_of("dcase20b")["table4"]
    of_classes = [row for row in table.rows if row.published_classes]
    assert len(of_classes) == 8
    for row in of_classes:
        assert row.published == pytest.approx(sum(row.published_classes.values()) / 3, abs=0.1)
    pruned = [row.published or 0 for row in table.rows if row.name.startswith("Pruned ")]
    (ours,) = [row for row in table.rows if row.published_runs]
    assert ours.published_runs == len(pruned) == 4
    assert ours.published == pytest.approx(sum(pruned) / 4, abs=0.006)


def test_peas_tables_agree_with_each_other_and_with_the_text() -> None:
    """Section IV.D: 2.35 points over Conventional on ESC-50; 1.15 and 0.23 over Random."""
    for recipe, over_random in (("esc50", 1.15), ("sc_v2", 0.23)):
        two, three = published(recipe, "peas_table2"), published(recipe, "peas_table3")
        assert len(two) == 2 and len(three) == 7
        assert two.items() <= three.items()
        gain = three["PEAS (1, 1)"] - three["Random (1, 1)"]
        assert gain == pytest.approx(over_random)
    esc50 = published("esc50", "peas_table2")
    assert esc50["PEAS (1, 1)"] - esc50["Conventional (1, 1)"] == pytest.approx(2.35)


def test_peas_rows_have_as_many_blocks_as_their_names_say() -> None:
    for recipe in ("esc50", "sc_v2"):
        conf = EGS / recipe / "conf"
        place = Place(conf, Path("d"), Path("e"), Path("x"), "c", (1,))
        table = tables_of(recipe)["peas_table3"]
        for row in table.rows[1:]:
            augment = row_config(place, table, row).augment
            peas = next((m for m in augment.get("methods", []) if m["name"] == "peas"), augment)
            blocks = tuple(peas.get(f"{axis}_blocks", 1) for axis in ("time", "freq"))
            assert row.name.endswith(str(blocks))
            assert (peas.get("masking", "peas") == "random") == row.name.startswith("Random")


def test_the_tagger_is_trained_as_its_report_says() -> None:
    """UPB's report, section 3.2."""
    place = Place(EGS / "fsdkaggle19" / "conf", Path("d"), Path("e"), Path("x"), "c", (1,))
    table = tables_of("fsdkaggle19")["table2"]
    repeats = set()
    for row in (row for row in table.rows if row.augment):
        train = row_config(place, table, row).train
        schedule = build(SCHEDULES, train.schedule, "schedule")
        rates = [train.optimizer.lr * schedule.at(0, step) for step in (0, 149_999, 150_000)]
        assert rates == pytest.approx([3e-4, 3e-4, 1e-4])
        assert (train.optimizer.name, train.clip_norm, train.batch_size) == ("adam", 15, 16)
        assert train.iterations == 200_000 and train.selection == "last"
        network = torch.nn.Linear(1, 1)
        average = WeightAverage(network, train.average)
        for step in range(500, 200_001, 500):
            average.after("iteration", step, network)
        assert average.count == 50  # each 1,000th of the last 50,000 steps
        repeats.add(train.pool.repeats)
    assert repeats == {2, 4}
