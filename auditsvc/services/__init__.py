"""The use cases, one function each; the command line, the HTTP API, jobs and the demo call the same ones.

candidates
    ``register_parent``, ``prune_candidate``, ``admit`` (pruned elsewhere), ``submit``
audit
    ``audit_candidate``: measure, explore, judge and report
measurement
    ``measure_candidate``: the evidence of every check
terms
    ``propose_terms``, ``confirm_terms``; ``binding_terms``: what binds a model
decisions
    ``judge``, ``approve``, ``waive``
release, rollback, alias
    ``release``, ``revoke``, ``roll_back``; ``set_alias``, ``clear_alias``, ``reconcile``
reporting
    ``write_report``
log_check
    ``check_log``: every record and index derived from the log again
gate_query
    ``query_gate``: may this version be used? From the ledger alone

Each takes the ports as ``ctx``, can be killed at any point and run again, and finds by content what it did before.
Import the modules one by one: the gate query must not wait for torch.
"""
