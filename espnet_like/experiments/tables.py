"""What a table file, conf/tables/<table>.yaml, may say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from espnet_like.config import check
from espnet_like.errors import MissingInput, UserError
from espnet_like.layers import read_yaml


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        name: as it is printed.
        augment: stem of conf/augment/<augment>.yaml; empty: only the published value, not run.
        model: stem of conf/model/<model>.yaml; the table's when not given.
        train: stem of conf/<train>.yaml; the table's when not given.
        init: name of a row above that this one starts from, fold by fold and seed by seed. It has
            that row's configuration, over which its own `train` and `overrides` are laid.
        pretrain: stem of conf/<pretrain>.yaml, by which the network is pretrained first (stage
            pretrain), fold by fold and seed by seed; the table's when not given, "" for none.
        ensemble: name of another row -> its folds: this row is the mean of those runs' scores
            (stage ensemble), and has no runs of its own.
        overrides: dotted keys and values laid over the files.
        seeds: the table's when not given.
        published: the paper's value in percent, `published_std` and over how many runs.
        source: where the published value stands.
        published_classes: percent of each class, published_parameters and published_bytes: what
            else the paper says of it.
    """

    name: str
    augment: str = ""
    model: str | None = None
    train: str | None = None
    init: str | None = None
    pretrain: str | None = None
    ensemble: dict[str, tuple[int, ...]] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    published: float | None = None
    published_std: float | None = None
    published_runs: int | None = None
    source: str | None = None
    published_classes: dict[str, float] = field(default_factory=dict)
    published_parameters: int | None = None
    published_bytes: int | None = None


@dataclass(frozen=True)
class Sweep:
    """A figure of a table: the accuracy over the value of one override.

    Args:
        x: the override, e.g. augment.time_ratio; rows without it are flat lines.
        label: what it is, in percent: values are shares.
        lines: stem of augment -> name of its line, in the order of the legend.
    """

    x: str
    label: str
    lines: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A published table, or one of our own.

    Args:
        title: heading of the table.
        model: stem of conf/model/<model>.yaml.
        rows: the lines.
        corpus: the corpus that the table is about (a subset or demo has its own name), or variants
            of it, `<corpus>+<what differs>`.
        description: what a reader has to know, Markdown.
        train: stem of conf/<train>.yaml.
        features: stem of conf/<features>.yaml, the front end.
        pretrain: of every row, if they are pretrained here.
        seeds: repeats of each row.
        baseline: name of the row that others are compared with.
        folds: those that a whole result has; any that were run where it is empty.
        overrides: dotted keys and values for every row.
        metric: what the published values are: of clips, or mean over classes; lwlrap of a corpus
            whose clips have several tags.
        columns: more of them: accuracy of each class; parameters that are not zero and the bytes
            of the weights file, beside the published size.
        domains: what the accuracies are broken down by (city, device).
        compare: pairs of rows to test clip by clip (McNemar's exact test).
        figure: the rows as a picture.
    """

    title: str
    model: str
    rows: tuple[Row, ...]
    corpus: str
    description: str = ""
    train: str = "train"
    features: str = "features"
    pretrain: str = ""
    seeds: tuple[int, ...] = (0,)
    baseline: str | None = None
    folds: tuple[int, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)
    metric: Literal["accuracy", "macro_accuracy", "lwlrap"] = "accuracy"
    columns: tuple[Literal["per_class", "size"], ...] = ()
    domains: tuple[str, ...] = ()
    compare: tuple[tuple[str, str], ...] = ()
    figure: Sweep | None = None

    def __post_init__(self) -> None:
        if not self.rows or not all(self.seeds_of(row) for row in self.rows):
            raise ValueError("a table has one row or more, and a row one seed or more")

    def about(self, corpus: str) -> bool:
        """Whether the table is about this corpus, or what this is a variant of."""
        return corpus.partition("+")[0] == self.corpus

    def start_of(self, row: Row) -> Row | None:
        """The row that `row` starts from, if it does."""
        return next((other for other in self.rows if other.name == row.init), None)

    def pretraining_of(self, row: Row) -> str:
        """Stem of the file that a row's network is pretrained by; empty if it is not."""
        return self.pretrain if row.pretrain is None else row.pretrain

    def seeds_of(self, row: Row) -> tuple[int, ...]:
        """The seeds of a row."""
        return self.seeds if row.seeds is None else row.seeds


def read_table(path: Path) -> Table:
    """A table file, checked.

    Raises:
        MissingInput: no such table. UserError: malformed; two rows of one name.
    """
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise MissingInput(f"{path}: no such table; there are: {there}")
    try:
        table: Table = check(read_yaml(path), Table)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    names = [row.name for row in table.rows]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: two rows are called {name!r}: rename one")
    for number, row in enumerate(table.rows):
        if lacking := [name for name in row.ensemble if name not in names]:
            raise UserError(
                f"{path}: row {row.name!r}: ensemble of {lacking[0]!r}, which is no row"
            )
        if row.ensemble and row.augment:
            raise UserError(f"{path}: row {row.name!r}: an ensemble has no augment of its own")
        if row.init is not None and row.init not in names[:number]:
            raise UserError(f"{path}: row {row.name!r}: init {row.init!r} is none of those above")
    for pair in table.compare:
        if lacking := [name for name in pair if name not in names]:
            raise UserError(f"{path}: compare: {lacking[0]!r} is none of the rows")
    if table.baseline is not None and table.baseline not in names:
        raise UserError(f"{path}: baseline {table.baseline!r} is none of the rows")
    return table


def read_tables(conf: Path) -> dict[str, Table]:
    """All tables of a recipe, by stem."""
    return {path.stem: read_table(path) for path in sorted((conf / "tables").glob("*.yaml"))}
