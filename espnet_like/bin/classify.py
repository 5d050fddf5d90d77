"""Classify audio files with a packed model."""

from __future__ import annotations

from espnet_like.bin import Parser
from espnet_like.bin.train import add_device, device
from espnet_like.errors import run
from espnet_like.inference import Classifier


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="classify", description=__doc__, allow_abbrev=False)
    parser.add_argument("--pack", required=True, help="directory that stage pack made")
    parser.add_argument("--top", type=int, default=3, help="how many labels to print of each")
    parser.add_argument("audio", nargs="+", help="wav, flac or ogg files")
    add_device(parser)
    args = parser.parse_args(argv)
    if args.top < 1:
        parser.error("--top is at least 1")
    classifier = Classifier.load(args.pack).to(device(args.device))
    for path in args.audio:
        scores = list(classifier.classify(path).items())[: args.top]
        print(path, *(f"{label}={score:.3f}" for label, score in scores))


if __name__ == "__main__":
    run(main)
