#!/usr/bin/env python3
"""Write the results table of README.md anew from egs/*/results.csv and the tables' files.

usage: tools/update_readme.py [--check]

With --check nothing is written; exit code 1 when README.md is not what it would write.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from espnet_like.errors import UserError, run
from espnet_like.experiments.tables import read_tables
from espnet_like.files import write_text
from espnet_like.results.markdown import markdown
from espnet_like.results.page import summary
from espnet_like.results.store import read_csv

OPEN, CLOSE = "<!-- results: tools/update_readme.py -->\n", "<!-- end of results -->\n"
HEADER = ("recipe", "table", "row", "accuracy (%)", "runs", "scored")


def results_table(root: Path) -> str:
    """All rows that were run, of all recipes."""
    lines = []
    for recipe in sorted(root.glob("egs/*/results.csv")):
        tables = read_tables(recipe.parent / "conf")
        lines += summary(recipe.parent, read_csv(recipe), tables)
    return markdown(HEADER, lines) if lines else "No results yet.\n"


def updated(text: str, table: str) -> str:
    """`text` with what stands between the marks replaced."""
    before, opened, rest = text.partition(OPEN)
    _, closed, after = rest.partition(CLOSE)
    if not (opened and closed):
        raise UserError("README.md: the marks around the results are gone: restore them")
    return f"{before}{OPEN}\n{table}\n{CLOSE}{after}"


def main() -> int:
    if sys.argv[1:] in (["--help"], ["-h"]):
        print((__doc__ or "").strip())
        return 0
    if sys.argv[1:] not in ([], ["--check"]):
        raise UserError(f"{sys.argv[1]}: unknown option; there is --check")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = updated(text, results_table(ROOT))
    if "--check" in sys.argv:
        if new != text:
            print("README.md: its results are not those of egs/*/results.csv", file=sys.stderr)
        return int(new != text)
    write_text(readme, new)
    return 0


if __name__ == "__main__":
    run(main)
