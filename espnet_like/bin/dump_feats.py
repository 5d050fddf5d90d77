"""Stage feats: features of a data directory, as archives; job by job, then `--merge`."""

from __future__ import annotations

from pathlib import Path

import torch

from espnet_like.bin import Parser
from espnet_like.config import check, load_layers, parse_overrides
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError, run
from espnet_like.features.dump import Settings
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.schema import Experiment


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="dump_feats",
        description=__doc__,
        allow_abbrev=False,
        epilog="Settings are overridden as --features.n_mels 128 or --audio.channels 2.",
    )
    parser.add_argument("--config", type=Path, action="append", required=True, help="YAML")
    parser.add_argument("--data", type=Path, required=True, help="data directory")
    parser.add_argument("--out", type=Path, required=True, help="dump directory")
    parser.add_argument("--num-jobs", type=int, default=1)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--job", type=int, help="make this part, from 1")
    what.add_argument("--merge", action="store_true", help="join the parts")
    parser.add_argument("--compress", action="store_true", help="one byte a value, lossy")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--max-bad", type=int, default=0, help="bad files to leave out")
    parser.add_argument("--batch-seconds", type=float, default=30.0, help="audio at once")
    args, overrides = parser.parse_known_args(argv)
    if args.compress and args.dtype != "float32":
        raise UserError(f"--compress and --dtype {args.dtype}: choose one")
    if args.max_bad < 0 or args.batch_seconds <= 0 or args.num_jobs < 1:
        raise UserError("--num-jobs is at least 1, --max-bad 0, --batch-seconds more than 0")
    layers = load_layers(args.config, overrides)
    if idle := parse_overrides(overrides).keys() - {"features", "audio"}:
        raise UserError(f"--{min(idle)}: a dump depends on features and audio alone")
    if "features" not in layers:
        raise UserError(f"{args.config[-1]}: no features: write features: {{name: cpjku}}")
    config: Experiment = check(layers, Experiment)  # which has more than a dump depends on
    kind = "compressed" if args.compress else args.dtype
    settings = Settings.resolve(
        config.features, config.audio.channels, config.audio.expect_rate, kind
    )
    data = DataDir.load(args.data)
    if args.merge:
        merge_parts(settings, data, args.out, args.num_jobs, args.max_bad)
        return
    torch.set_num_threads(1)  # jobs, not threads, fill the cores
    dump_part(settings, data, args.out, args.job, args.num_jobs, args.max_bad, args.batch_seconds)


if __name__ == "__main__":
    run(main)
