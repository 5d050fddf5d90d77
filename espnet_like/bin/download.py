"""Stage download: the archives that a table lists, fetched, checked, unpacked."""

from __future__ import annotations

import sys
from pathlib import Path

from espnet_like.bin import Parser
from espnet_like.data.archives import get
from espnet_like.data.listing import read_listing
from espnet_like.errors import UserError, run


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="download", description=__doc__, allow_abbrev=False)
    parser.add_argument("archives", type=Path, help="the table, a recipe's local/archives.tsv")
    parser.add_argument(
        "--db-root", type=Path, default=Path("db"), help="where the corpus goes, or is already"
    )
    parser.add_argument("--parallel", type=int, default=4, help="archives at a time (default: 4)")
    parser.add_argument(
        "--keep-archives", action="store_true", help="do not remove what has been unpacked"
    )
    args = parser.parse_args(argv)
    if args.parallel < 1:
        raise UserError(f"--parallel {args.parallel}: must be 1 or more")
    failures = get(read_listing(args.archives), args.db_root, args.parallel, args.keep_archives)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return failures[0].code if failures else 0


if __name__ == "__main__":
    run(main)
