"""Jobs on DBOS: durable workflows in SQLite or PostgreSQL, resumed by another worker after a crash.

``job_store``   the database: DBOS's tables, and the tables for workers, job events and crashes
``job_client``  ``ports.Jobs``: submit, query, cancel, retry; needs neither a worker nor torch
``runners``     ``ports.Runner`` for one job inside a worker, and its progress
``liveness``    leases and heartbeats of workers, and recovery of the jobs of crashed ones
``worker``      one worker process

DBOS resumes the jobs of a process that restarts under its own name.  The jobs of a worker that does not restart are
recovered here: each worker has a heartbeat, and any worker that finds another one dead queues its jobs again.
"""
