#!/usr/bin/env python3
"""Stage 1 of dcase20b: the official layout -> data directories (espnet_like/data/dcase)."""

from espnet_like.data.dcase import DCASE20B
from espnet_like.data.dcase.prepare import main
from espnet_like.errors import run

if __name__ == "__main__":
    run(lambda: main(DCASE20B))
