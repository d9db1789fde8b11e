"""``worker`` and ``jobs``: background work, done and looked at."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from auditsvc.cli.output import Json, Store, print_json, settings_for

jobs_app = typer.Typer(
    help="Look at background work, stop it, try it again.", no_args_is_help=True, rich_markup_mode=None
)

JobName = Annotated[str, typer.Argument(help="The job's id.")]


def worker(
    project: Annotated[str, typer.Option(help="Whose jobs to take, where there are several projects.")] = "",
    store: Store = None,
) -> None:
    """Take jobs from the queue until SIGTERM.  As many as wanted, on as many machines as wanted.

    What a worker was at when it was killed is taken over by the others, or by itself when it is started again.  With
    AUDITSVC_DEVICE=cuda it takes the audits that ask for a GPU; start one for each, with CUDA_VISIBLE_DEVICES.
    """
    import sys

    from auditsvc.bootstrap import open_worker

    made = open_worker(settings_for(store).for_project(project))
    print(f"worker {made.name} takes jobs", file=sys.stderr, flush=True)
    made.run()


@jobs_app.command("list")
def jobs_list(
    state: Annotated[
        Literal["queued", "running", "done", "failed", "cancelled"] | None,
        typer.Option(help="Only jobs in this state."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    store: Store = None,
    json: Json = False,
) -> None:
    """Jobs, newest first."""
    from auditsvc.bootstrap import open_jobs

    found = open_jobs(settings_for(store)).page(state=state, limit=limit)
    if json:
        print_json({"jobs": [job.model_dump(mode="json") for job in found]})
        return
    for job in found:
        fault = f"  {job.fault.code}: {job.fault.message}" if job.fault else ""
        print(f"{job.id}  {job.order.kind:<8} {job.state:<9} {job.by}{fault}")


@jobs_app.command("cancel")
def jobs_cancel(job: JobName, store: Store = None, json: Json = False) -> None:
    """Stop a job: at once if it waits, else at its next sign of life."""
    from auditsvc.bootstrap import open_jobs

    _tell(open_jobs(settings_for(store)).cancel(job).model_dump(mode="json"), json=json)


@jobs_app.command("retry")
def jobs_retry(job: JobName, store: Store = None, json: Json = False) -> None:
    """Queue a job again that failed or was cancelled."""
    from auditsvc.bootstrap import open_jobs

    _tell(open_jobs(settings_for(store)).retry(job).model_dump(mode="json"), json=json)


@jobs_app.command("forget")
def jobs_forget(
    days: Annotated[int, typer.Option(min=0, help="Forget what ended so many days ago, or earlier.")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Remove jobs that ended long ago, with what they told.  What they made stays in the ledger.

    Workers do it by themselves after AUDITSVC_JOB_DAYS (90).
    """
    import datetime

    from auditsvc.bootstrap import SystemClock, open_jobs

    found = open_jobs(settings_for(store)).forget(SystemClock().now() - datetime.timedelta(days=days))
    if json:
        print_json({"forgotten": found})
    else:
        print(f"forgot {found} jobs")


def _tell(job: dict[str, object], *, json: bool) -> None:
    if json:
        print_json(job)
    else:
        print(f"{job['id']} is {job['state']}")
