"""``serve``, ``worker``, ``jobs`` and ``backup``: run the API and workers, manage jobs, back up the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from auditsvc.cli.output import Json, Store, command_group, context_for, print_result, settings_for

if TYPE_CHECKING:
    from auditsvc.ports import Jobs
    from auditsvc.records import Job


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind to. [default: 127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to. [default: 8600]", show_default=False)] = None,
    store: Store = None,
    admin_token: Annotated[bool, typer.Option("--admin-token", help="Make and show a new admin token.")] = False,
    admin: Annotated[str, typer.Option(help="Whose admin token; separate duties need two admins.")] = "admin",
) -> None:
    """Start the API and its pages: GET /v1/gate, /docs.  The first start shows an admin token, once."""
    from auditsvc.web.app import run

    settings = settings_for(store)
    run(settings, host or settings.host, port or settings.port, new_admin_token=admin_token, admin=admin)


jobs_app = command_group("List, cancel and retry background jobs.")

JobName = Annotated[str, typer.Argument(help="The job's id.")]


def worker(
    project: Annotated[
        str | None, typer.Option(help="The project to take jobs of. [default: $AUDITSVC_PROJECT]", show_default=False)
    ] = None,
    store: Store = None,
    parent: Annotated[int, typer.Option(hidden=True, help="The service that this worker ends with.")] = 0,
) -> None:
    """Run jobs from the queue until SIGTERM.  Start any number of workers, on any number of machines.

    What a worker was at when it was killed is taken over by the others, or by itself when it is started again.  With
    AUDITSVC_DEVICE=cuda it takes the audits that ask for a GPU; start one for each, with CUDA_VISIBLE_DEVICES.
    """
    import os
    import sys

    from auditsvc.adapters.jobs.parent_process import end_with_parent

    if parent:
        end_with_parent()
        if os.getppid() != parent:  # it ended before the kernel was asked
            return
    from auditsvc.bootstrap import continue_without_keys, open_worker

    settings = settings_for(store)
    if not settings.signer:
        continue_without_keys(settings)
    made = open_worker(settings, settings.project if project is None else project)
    print(f"worker {made.name} takes jobs", file=sys.stderr, flush=True)
    made.run(parent)


def signer(
    socket: Annotated[
        str | None, typer.Option(help="The path of its socket. [default: $AUDITSVC_SIGNER]", show_default=False)
    ] = None,
    store: Store = None,
) -> None:
    """Hold the keys and sign what the ledger shows as decided, for workers and services with AUDITSVC_SIGNER.

    Run it as a user of its own who alone can read the folder `keys` of the store, in the group of the others.
    """
    from auditsvc.bootstrap import run_signer
    from auditsvc.errors import InvalidInput

    settings = settings_for(store)
    if not (address := socket or settings.signer):
        raise InvalidInput("name the signer's socket with --socket or AUDITSVC_SIGNER")
    run_signer(settings, address)


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
    found = _jobs(store).page(state=state, limit=limit)
    lines = []
    for job in found:
        error = f"  {job.error.code}: {job.error.message}" if job.error else ""
        lines.append(f"{job.id}  {job.request.kind:<8} {job.state:<9} {job.submitted_by}{error}")
    print_result(json, {"jobs": [job.model_dump(mode="json") for job in found]}, *(lines or ["there are no jobs"]))


@jobs_app.command("cancel")
def jobs_cancel(job: JobName, store: Store = None, json: Json = False) -> None:
    """Stop a job: at once if it is queued, else at its next heartbeat."""
    _print(_jobs(store).cancel(job), json=json)


@jobs_app.command("retry")
def jobs_retry(job: JobName, store: Store = None, json: Json = False) -> None:
    """Queue a job again that failed or was cancelled."""
    _print(_jobs(store).retry(job), json=json)


@jobs_app.command("forget")
def jobs_forget(
    days: Annotated[int, typer.Option(min=0, help="Delete jobs that ended at least this many days ago.")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Delete jobs that ended long ago, with their events.  Their results stay in the ledger.

    Workers do this automatically after AUDITSVC_JOB_RETENTION_DAYS (90).
    """
    import datetime

    found = _jobs(store).delete_ended(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days))
    print_result(json, {"forgotten": found}, f"deleted {found} jobs")


def _jobs(store: Path | None) -> Jobs:
    from auditsvc.bootstrap import open_jobs

    settings = settings_for(store)
    return open_jobs(settings, settings.project)


def _print(job: Job, *, json: bool) -> None:
    print_result(json, job.model_dump(mode="json"), f"{job.id} is {job.state}")


store_app = command_group("The files of the store.")


@store_app.command("clean")
def clean(
    days: Annotated[float, typer.Option(min=0, help="Keep files that were stored within so many days.")] = 30,
    store: Store = None,
    json: Json = False,
) -> None:
    """Remove files that no record names.  The service does so every day; see AUDITSVC_UNUSED_DAYS.

    Retry failed jobs first: they need the files that they were given and the results of their shards.
    """
    from auditsvc.services.unused_blobs import remove_unused_blobs

    count, size = remove_unused_blobs(context_for(store), days)
    print_result(json, {"removed": count, "bytes": size}, f"removed {count} files, {size / 1e6:.1f} MB")


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for the copy.")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Copy the store while the service runs.  Databases elsewhere and object storage are copied by their own tools.

    To restore, stop the service, put the copy in the store's place, and start it: it refuses to sign if its log was
    published further than the copy goes.
    """
    from auditsvc.adapters.backup import back_up

    settings = settings_for(store)
    settings = settings.for_project(settings.project)
    copied = back_up(settings.store, folder.absolute())
    urls = {"the ledger": settings.ledger_url, "MLflow": settings.mlflow_uri, "the files": settings.blobs_url}
    elsewhere = [name for name, url in urls.items() if url]
    words = f"not copied, as they are elsewhere: {', '.join(elsewhere)}; back up the ledger before the files"
    print_result(
        json,
        {"backup": str(folder.absolute()), "copied": list(copied), "elsewhere": elsewhere},
        f"copied to {folder}: {', '.join(copied)}",
        *([words] if elsewhere else []),
    )
