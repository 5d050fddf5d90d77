#!/usr/bin/env python3
"""Stage 0 of dcase20b with --demo: a tiny corpus in the official layout."""

from espnet_like.data.dcase import DCASE20B
from espnet_like.data.dcase.demo import main
from espnet_like.errors import run

if __name__ == "__main__":
    run(lambda: main(DCASE20B))
