"""The corpora of DCASE task 1 as they are published, and their data directories.

`corpora` says what each of them holds, `layout` reads and checks a copy, `prepare` makes the sets
of a recipe's stage 1, `demo` writes a tiny corpus in the same layout.
"""

from espnet_like.data.dcase.corpora import CORPORA, DCASE18, DCASE19, DCASE20A, DCASE20B, Corpus

__all__ = ["CORPORA", "DCASE18", "DCASE19", "DCASE20A", "DCASE20B", "Corpus"]
