"""A worker of the service's own: there when there are jobs, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditsvc.adapters.jobs.parent_process import orphans
from auditsvc.records import ReleaseRequest
from auditsvc.settings import Settings
from auditsvc.web.app import open_site
from auditsvc.web.periodic import WorkerProcesses, WorkerSupervisor, supervise_workers
from tests.fakes.jobs import MemoryJobs

ORDER = ReleaseRequest(decision="sha256:" + "0" * 64)
PATIENT = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def jobs() -> MemoryJobs:
    return MemoryJobs()


def hired(staff: WorkerProcesses) -> int:
    return len(staff._hired)


def test_nobody_is_hired_while_there_is_nothing_to_do(jobs: MemoryJobs) -> None:
    staff = WorkerProcesses(jobs, PATIENT, 1)
    staff.look()
    assert hired(staff) == 0


def test_one_is_hired_for_jobs_that_wait_and_no_more_than_allowed(jobs: MemoryJobs) -> None:
    staff = WorkerProcesses(jobs, PATIENT, 1)
    rounds = supervise_workers(staff)
    for _ in range(3):
        jobs.submit(ORDER, "ann")
        staff.look()
    assert hired(staff) == 1
    rounds.stop()
    assert [process.poll() is not None for process in staff._hired] == [True]


def test_who_died_over_a_job_is_replaced(jobs: MemoryJobs) -> None:
    staff = WorkerProcesses(jobs, (sys.executable, "-c", ""), 1)
    jobs._change(jobs.submit(ORDER, "ann").id, "running")
    staff.look()
    (first,) = staff._hired
    first.wait()
    staff.look()
    assert [process.pid for process in staff._hired] != [first.pid]
    staff.dismiss()


def test_a_database_that_was_never_made_is_not_made_by_looking(jobs: MemoryJobs, tmp_path: Path) -> None:
    jobs.submit(ORDER, "ann")
    staff = WorkerProcesses(jobs, PATIENT, 1, tmp_path / "jobs.db")
    staff.look()
    assert (hired(staff), list(tmp_path.iterdir())) == (0, [])


def test_a_worker_whose_service_was_killed_is_ended_at_the_next_start(jobs: MemoryJobs) -> None:
    """The parent in its command line is not its parent any more: here it never was."""
    store = f"a-store-of-process-{os.getpid()}"
    command = (sys.executable, "-c", "import time; time.sleep(60)", store, "--parent")
    other = (*command[:3], "another-store", "--parent", "1")
    with (
        subprocess.Popen((*command, "1")) as orphan,
        subprocess.Popen((*command, str(os.getpid()))) as ours,
        subprocess.Popen(other) as stranger,
    ):
        while list(orphans((*command, "7"))) != [orphan.pid]:
            time.sleep(0.05)
        WorkerProcesses(jobs, (*command, str(os.getpid())), 1).look()
        assert orphan.wait(10) == -signal.SIGKILL
        assert (ours.poll(), stranger.poll()) == (None, None)
        ours.kill()
        stranger.kill()


@pytest.mark.parametrize("command", [PATIENT, (), ("a", "b", "--parent", "x"), ("--parent", "1")])
def test_a_command_that_could_be_another_program_s_finds_nothing(jobs: MemoryJobs, command: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="--parent"):
        list(orphans(command))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_a_worker_ends_with_its_service_even_where_that_is_killed(tmp_path: Path) -> None:
    child = "from auditsvc.adapters.jobs.parent_process import end_with_parent as e; e(); import time; "
    child += f"open({str(tmp_path / 'up')!r}, 'w').close(); time.sleep(60)"
    parent = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    parent += "print(p.pid, flush=True); p.wait()"
    with subprocess.Popen((sys.executable, "-c", parent), stdout=subprocess.PIPE, text=True) as service:
        worker = int(service.stdout.readline() if service.stdout else 0)
        while not (tmp_path / "up").exists():
            time.sleep(0.05)
        service.kill()
    for _ in range(200):
        if not Path(f"/proc/{worker}").exists() or ") Z " in Path(f"/proc/{worker}/stat").read_text():
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlives its service")


@pytest.mark.parametrize("project", ["", "plates"])
def test_a_worker_is_started_for_its_own_project(project: str, tmp_path: Path) -> None:
    settings = Settings(store=tmp_path / "store", projects="plates")
    root = open_site(settings, "127.0.0.1")
    rounds = root.of(project).rounds["working"]
    root.close()
    assert isinstance(rounds, WorkerSupervisor) and rounds.staff is not None
    options = dict(zip(rounds.staff.command[4::2], rounds.staff.command[5::2], strict=True))
    told = Settings(store=Path(options["--store"]), projects="plates").for_project(options["--project"])
    assert (told.store, told.jobs_db) == (settings.for_project(project).store, settings.for_project(project).jobs_db)
    assert rounds.staff.database == told.store / "jobs.db"
