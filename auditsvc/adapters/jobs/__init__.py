"""Jobs on DBOS: durable workflows in SQLite or PostgreSQL, resumed by another worker after a crash.

``job_store``  the database (DBOS's tables, workers, job events, crashes), and ``ports.Jobs`` on it, without torch
``runners``    ``ports.Runner`` for one job inside a worker, and its progress
``worker``     one worker process: its lease and heartbeat, and recovery of the jobs of crashed workers

DBOS resumes the jobs of a process that restarts under its own name.  The jobs of a worker that does not restart are
recovered here: each worker has a heartbeat, and any worker that finds another one dead queues its jobs again.
"""
