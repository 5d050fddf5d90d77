"""The job contract, seen from outside: what utils/run.py does to processes, logs and exit codes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from espnet_like.cluster import contract, local

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, str(ROOT / "utils" / "run.py")]
ENDED = re.compile(r"# Ended \(code (\d+)\) at \S+ \S+ \S+, elapsed time (\d+\.\d) seconds\n\Z")
# Writes its arguments, NUL between them, so that a test sees each of them as it arrived.
ECHO = [sys.executable, "-c", "import sys; print('\\0'.join(sys.argv[1:]) + '\\0', end='')"]


@pytest.fixture
def run(tmp_path: Path):
    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RUN, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **environment},
        )

    return call


def body(log: Path) -> str:
    """What the job wrote: the log without header and footer."""
    text = log.read_text()
    return ENDED.sub("", text[text.index("\n#\n") + 3 :])


def test_log_opens_and_closes_as_agreed(run, tmp_path: Path) -> None:
    done = run("JOB=1:2", "log/a.JOB.log", "sh", "-c", "echo out; echo err >&2; sleep 0.2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for number in (1, 2):
        text = (tmp_path / f"log/a.{number}.log").read_text()
        lines = text.splitlines()
        assert lines[0] == "# sh -c 'echo out; echo err >&2; sleep 0.2'"
        assert lines[1] == f"# Running on {os.uname().nodename}"
        assert re.fullmatch(r"# Started at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", lines[2])
        assert lines[3:6] == ["#", "out", "err"]
        ended = ENDED.search(text)
        assert ended and ended[1] == "0" and 0.1 < float(ended[2]) < 20


@pytest.mark.parametrize(
    "argument",
    [
        "a b",
        "",
        "'",
        '"',
        "$(touch x)",
        "`id`",
        "*",
        "a\nb\n",
        "\\",
        ";",
        "JOBS",
        "xJOB",
        "-n",
        "é",
    ],
)
def test_arguments_arrive_as_they_are(run, tmp_path: Path, argument: str) -> None:
    done = run("JOB=2", "a.JOB.log", *ECHO, argument, "end")
    assert (done.returncode, done.stderr) == (0, "")
    assert body(tmp_path / "a.2.log") == f"{argument}\0end\0\n"


def test_number_replaces_whole_tokens_only(run, tmp_path: Path) -> None:
    given = ["JOB", "feats.{JOB}.ark", "{JOB}{JOB}", "JOB.ark", "MYJOB", "{job}"]
    done = run("JOB=7:8", "log.JOB/x_JOB.JOBS.log", *ECHO, *given)
    assert done.returncode == 0
    assert "'JOB.ark'" in done.stderr and "'{JOB}.ark'" in done.stderr  # said, not done
    for n in "78":
        expected = [n, f"feats.{n}.ark", n + n, "JOB.ark", "MYJOB", "{job}"]
        assert body(tmp_path / f"log.{n}" / f"x_{n}.JOBS.log").split("\0")[:-1] == expected


def test_single_job_has_no_number(run, tmp_path: Path) -> None:
    assert run("JOB.log", *ECHO, "JOB", "{JOB}").returncode == 0
    assert body(tmp_path / "JOB.log") == "JOB\0{JOB}\0\n"


def test_footer_has_its_own_line(run, tmp_path: Path) -> None:
    run("a.log", "printf", "no newline")
    assert "\nno newline\n# Ended (code 0)" in (tmp_path / "a.log").read_text()


def test_python_lines_reach_the_log_at_once(tmp_path: Path) -> None:
    code = "import time; print('here'); time.sleep(60)"
    process = subprocess.Popen([*RUN, "a.log", sys.executable, "-c", code], cwd=tmp_path)
    try:
        wait_for(lambda: "\nhere\n" in read(tmp_path / "a.log"))
    finally:
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM


def test_failure_shows_why(run, tmp_path: Path) -> None:
    script = "for i in $(seq 100); do echo line $i of job $0; done; test $0 -lt 3"
    done = run("JOB=1:4", "log/a.JOB.log", "sh", "-c", script, "JOB")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert "2 of 4 jobs (JOB 3, 4) failed" in lines[0]
    assert "log/a.3.log ended with code 1" in lines[0]
    assert lines[-2] == "line 100 of job 3" and ENDED.match(lines[-1] + "\n")
    assert len(lines) == 1 + contract.TAIL_LINES


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["sh", "-c", "exit 3"], 3, "ended with code 3"),
        (["sh", "-c", "kill -9 $$"], 137, "ended with code 137"),
        (["no-such-command"], 127, "no-such-command: No such file"),
        (["/"], 126, "Permission denied"),
    ],
)
def test_exit_codes(run, tmp_path: Path, command: list[str], code: int, words: str) -> None:
    done = run("a.log", *command)
    assert done.returncode == 1 and words in done.stderr
    assert contract.exit_code(str(tmp_path / "a.log")) == code


def test_preempted_jobs_give_75_unless_another_failed(run) -> None:
    script = "exit $(echo 0 75 $1 | cut -d ' ' -f $0)"
    done = run("JOB=1:3", "a.JOB.log", "sh", "-c", script, "JOB", "75")
    assert done.returncode == 75 and "2 of 3 jobs (JOB 2, 3) pre-empted" in done.stderr
    assert "--pick failed" in done.stderr
    done = run("JOB=1:3", "a.JOB.log", "sh", "-c", script, "JOB", "9")
    assert done.returncode == 1 and "a.3.log ended with code 9" in done.stderr


def test_pick_failed_reruns_only_what_did_not_end_well(run, tmp_path: Path) -> None:
    script = "echo $0 >> count; test -e good -o $0 != 2"
    array = ["JOB=1:5", "a.JOB.log", "sh", "-c", script, "JOB"]
    assert run(*array).returncode == 1
    (tmp_path / "a.3.log").unlink()  # never ran
    killed = tmp_path / "a.4.log"  # killed with the machine: the last line is no footer
    killed.write_text(killed.read_text() + "more\n")
    done = run("--pick", "failed", "--dry-run", *array)
    planned = [line.split()[-1] for line in done.stdout.splitlines()]
    assert planned == ["a.2.log", "a.3.log", "a.4.log"]
    (tmp_path / "count").unlink()
    (tmp_path / "good").touch()
    assert run("--pick=failed", *array).returncode == 0
    assert sorted((tmp_path / "count").read_text().split()) == ["2", "3", "4"]
    assert run("--pick", "failed", *array).returncode == 0
    assert len((tmp_path / "count").read_text().split()) == 3


def test_a_footer_is_only_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    fake = contract.footer(0, 1.0)
    log.write_text(f"{fake}and on\n")
    assert contract.exit_code(str(log)) is None
    log.write_text(f"echo {fake}")
    assert contract.exit_code(str(log)) is None
    log.write_text(f"{'x' * 200_000}\n{contract.footer(12, 1.0)}")
    assert contract.exit_code(str(log)) == 12
    assert contract.exit_code(str(tmp_path / "none")) is None
    job = contract.Job(1, ("echo", fake), str(log))
    log.write_text(contract.header(job, "host"))  # the command holds a footer
    assert contract.exit_code(str(log)) is None


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_max_jobs_run(run, tmp_path: Path, limit: int) -> None:
    # Each job notes how many are in the folder while it runs.
    script = "mkdir -p on; touch on/$0; ls on | wc -l; sleep 0.15; rm on/$0"
    array = ["JOB=1:6", "a.JOB.log", "sh", "-c", script, "JOB"]
    assert run("--max-jobs-run", str(limit), *array).returncode == 0
    seen = [int(body(tmp_path / f"a.{n}.log")) for n in range(1, 7)]
    assert max(seen) <= limit
    assert limit == 1 or max(seen) > 1


def test_cores_are_shared(run, tmp_path: Path) -> None:
    show = ["sh", "-c", "echo $OMP_NUM_THREADS"]
    cores = len(os.sched_getaffinity(0))
    run("a.log", *show, OMP_NUM_THREADS="")
    assert body(tmp_path / "a.log") == f"{cores}\n"
    run("--max-jobs-run", str(cores), f"JOB=1:{2 * cores}", "a.JOB.log", *show, OMP_NUM_THREADS="")
    assert body(tmp_path / "a.1.log") == "1\n"
    run("a.log", *show, OMP_NUM_THREADS="5")
    assert body(tmp_path / "a.log") == "5\n"
    run("--num-threads", "3", "a.log", *show, OMP_NUM_THREADS="5")
    assert body(tmp_path / "a.log") == "3\n"


def test_gpus_are_shared(run, tmp_path: Path) -> None:
    show = ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES; sleep 0.3"]
    done = run("--gpu", "1", "JOB=1:2", "a.JOB.log", *show, CUDA_VISIBLE_DEVICES="4,6")
    assert done.returncode == 0
    assert sorted(body(tmp_path / f"a.{n}.log") for n in (1, 2)) == ["4\n", "6\n"]
    assert run("--gpu", "2", "a.log", *show, CUDA_VISIBLE_DEVICES="4,6").returncode == 0
    assert body(tmp_path / "a.log") == "4,6\n"
    done = run("--gpu", "3", "a.log", *show, CUDA_VISIBLE_DEVICES="4,6")
    assert done.returncode == 2 and "this machine has 2" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-jobs", "2", "a.log", "true"], "unknown option --max-jobs; choose from"),
        (["-q", "x", "a.log", "true"], "unknown option -q"),
        (["--pick"], "--pick needs a value"),
        (["--pick", "some", "a.log", "true"], "all or failed"),
        (["--max-jobs-run", "0", "a.log", "true"], "whole number"),
        (["--max-jobs-run", "x", "a.log", "true"], "whole number"),
        (["--gpu", "x", "a.log", "true"], "whole number"),
        (["--dry-run=no", "a.log", "true"], "takes no value"),
        (["JOB=1:2", "a.JOB.log"], "log and a command"),
        ([], "log and a command"),
        (["JOB=0:2", "a.JOB.log", "true"], "JOB=0:2"),
        (["JOB=3:2", "a.JOB.log", "true"], "JOB=3:2"),
        (["JOB=1:x", "a.JOB.log", "true"], "JOB=1:x"),
        (["JOB=1:2:3", "a.JOB.log", "true"], "JOB=1:2:3"),
        (["LMWT=1:2", "a.LMWT.log", "true"], "LMWT=1:2"),
        (["JOB=1:2", "a.log", "true"], "cannot share a log"),
        (["JOB=1:2", "a.JOBS.log", "true"], "cannot share a log"),
    ],
)
def test_bad_usage_is_one_line_and_runs_nothing(
    run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_options_of_clusters_are_accepted(run) -> None:
    options = ["--mem", "4G", "--time", "1:00:00", "--gpu", "0", "--config", "x"]
    assert run(*options, "--num-threads", "1", "JOB=1", "a.JOB.log", "true").returncode == 0


def test_log_that_cannot_be_made(run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("file/a.log", "true")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "file" in done.stderr


def test_a_log_that_another_command_writes_is_left_alone(run, tmp_path: Path) -> None:
    sleeper = subprocess.Popen([*RUN, "a.log", "sleep", "60"], cwd=tmp_path)
    try:
        while not (tmp_path / "a.log").is_file() or "sleep" not in (tmp_path / "a.log").read_text():
            time.sleep(0.05)
        before = (tmp_path / "a.log").read_text()
        second = run("a.log", "true")
        assert second.returncode == 2 and second.stderr.count("\n") == 1
        assert "a.log: another command is at this job: wait for it or end it" in second.stderr
        assert (tmp_path / "a.log").read_text() == before
    finally:
        sleeper.terminate()
        sleeper.wait(40)
    assert run("a.log", "true").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_process_of_every_job(tmp_path: Path, number: signal.Signals) -> None:
    mark = f"1000.{os.getpid()}{int(number)}"  # a sleep of ours, known by its length
    script = f"sleep {mark} & sleep {mark}"
    process = start(tmp_path, "--max-jobs-run", "2", "JOB=1:3", "a.JOB.log", "sh", "-c", script)
    wait_for(lambda: len(processes(mark)) >= 6)  # 2 jobs, each a shell and two sleeps
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert not processes(mark)
    for n in (1, 2):
        assert contract.exit_code(str(tmp_path / f"a.{n}.log")) == 128 + signal.SIGTERM
    assert not (tmp_path / "a.3.log").exists()


def test_a_job_may_save_before_it_ends(tmp_path: Path) -> None:
    save = """
import signal, sys, time
def stop(*_):
    time.sleep(0.5)
    print("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
print("ready")
time.sleep(60)
"""
    # The shell in between dies at once; its child is waited for all the same.
    process = start(tmp_path, "a.log", "sh", "-c", '"$@"; true', "x", sys.executable, "-c", save)
    wait_for(lambda: "\nready\n" in read(tmp_path / "a.log"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert "\nsaved\n" in read(tmp_path / "a.log")


def test_a_second_signal_kills(tmp_path: Path) -> None:
    mark = f"1001.{os.getpid()}"
    script = f"trap '' TERM; echo ready; sleep {mark}; sleep {mark}"
    process = start(tmp_path, "a.log", "sh", "-c", script)
    wait_for(lambda: "\nready\n" in read(tmp_path / "a.log"))
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert processes(mark) and process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert not processes(mark)
    assert contract.exit_code(str(tmp_path / "a.log")) == 137


def test_grace_is_limited(tmp_path: Path) -> None:
    command = ("sh", "-c", "trap '' TERM; sleep 30; sleep 30")
    job = contract.Job(None, command, str(tmp_path / "a.log"))
    child = os.fork()
    if child == 0:  # its own process: the library takes over the signals of the one it is in
        code = 0
        try:
            local.run([job], 1, grace=0.3)
        except local.Cancelled as cancelled:
            code = cancelled.code
        os._exit(code)
    time.sleep(0.5)
    before = time.monotonic()
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    assert time.monotonic() - before < 10


def test_starts_fast() -> None:
    modules = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", RUN[1], "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "espnet_like.cluster.local" in modules
    for heavy in ("torch", "numpy", "yaml", "argparse", "logging", "asyncio"):
        assert not re.search(rf"\| +{heavy}$", modules, re.MULTILINE)


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    # SIGINT and SIGHUP may be ignored in what runs the tests; a child would inherit that.
    def reset() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    return subprocess.Popen(
        [*RUN, *arguments], cwd=folder, stderr=subprocess.DEVNULL, preexec_fn=reset
    )


def processes(mark: str) -> list[str]:
    """The living processes whose command line holds `mark`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().decode(errors="replace")
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark in command and state != "Z" and "run.py" not in command:
            found.append(command)
    return found


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def wait_for(condition: Any, seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.02)
