"""Jobs on DBOS: workflows whose steps are kept in SQLite or PostgreSQL, and workers that go on after a kill.

``store``      the database: DBOS's tables, and ours for what workers and jobs tell
``asking``     ``ports.Jobs``: submit, look, cancel, try again; needs no worker and no torch
``running``    ``ports.Runner`` for one job inside a worker, and its progress
``reaping``    who is alive, and what becomes of the jobs of the dead
``worker``     one worker process

DBOS restarts the jobs of a process that comes back under its own name; the jobs of one that does not come back are
taken over here: each worker tells that it lives, and whoever finds another dead puts its jobs back into their queue.
"""
