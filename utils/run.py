#!/usr/bin/env python3
"""Run an array of jobs on this machine.

usage: utils/run.py [options] [JOB=1:N] log.JOB.txt command argument...

  utils/run.py JOB=1:4 exp/log/feats.JOB.log python -m espnet_like.bin.dump_feats --job JOB ...
  utils/run.py --pick failed JOB=1:4 exp/log/feats.JOB.log ...   # only what is not yet done

The number takes the place of an argument that is JOB, of {JOB} anywhere in an argument, and of the
word JOB in the log's name. JOB=3 is one job of the array; without JOB= there is a single job. No
shell reads the arguments. Each log opens with the command, the host and the time, and closes with
"# Ended (code C) at ..."; that line alone says how a job went.

options:
  --max-jobs-run N   jobs at a time (default: cores / --num-threads; with --gpu: GPUs / --gpu)
  --num-threads N    threads of a job, given to it as OMP_NUM_THREADS (default: an equal share
                     of the cores, or OMP_NUM_THREADS where that is set)
  --gpu N            GPUs of a job, given to it as CUDA_VISIBLE_DEVICES; none on a machine without
  --pick all|failed  failed: only the jobs whose log does not say code 0 (default: all)
  --dry-run          print what would be run
  --mem, --time, --config VALUE   for clusters; no meaning here
  --help             this text

Ctrl-C and SIGTERM end all jobs: SIGTERM to each one's process group, after 30 s, or at a second
Ctrl-C, SIGKILL.

exit code: 0 all jobs did well; 1 one failed (the last lines of the first one's log are shown);
75 those that did not were pre-empted and have saved; 2 bad usage; 130, 143 cancelled.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from espnet_like.cluster import contract, local
from espnet_like.errors import UserError, run

OPTIONS = {
    "max-jobs-run": "",
    "num-threads": "",
    "gpu": "0",
    "pick": "all",
    "mem": "",
    "time": "",
    "config": "",
}


def main() -> int:
    """Submit the jobs of the command line and wait for them."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__.strip())
        return 0
    options, jobs = contract.parse(sys.argv[1:], OPTIONS, ["dry-run"])
    jobs = contract.pick(jobs, options["pick"])
    cores = len(os.sched_getaffinity(0))
    wanted = 0 if options["gpu"] == "0" else contract.positive(options, "gpu", 0)
    gpus = _gpus() if wanted else []
    per_job = wanted if gpus else 0
    if per_job > len(gpus):
        raise UserError(f"--gpu {per_job}: this machine has {len(gpus)}")
    threads = contract.positive(options, "num-threads", 0)
    slots = len(gpus) // per_job if per_job else max(1, cores // (threads or 1))
    at_once = contract.positive(options, "max-jobs-run", slots)

    if options["dry-run"]:
        for job in jobs:
            print(f"{shlex.join(job.command)} > {shlex.quote(job.log)}")
        return 0

    def environment(slot: int) -> dict[str, str]:
        share = max(1, cores // min(at_once, len(jobs)))
        own = {"OMP_NUM_THREADS": str(threads or os.environ.get("OMP_NUM_THREADS") or share)}
        if per_job:
            first = slot % (len(gpus) // per_job) * per_job
            own["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + per_job])
        return own

    try:
        return contract.report(jobs, local.run(jobs, at_once, environment))
    except local.Cancelled as cancelled:
        print(f"run.py: {cancelled}; all jobs ended", file=sys.stderr)
        return cancelled.code


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(i) for i in range(len(lines))]


if __name__ == "__main__":
    run(main)
