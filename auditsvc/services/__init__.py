"""The verbs, in the order of the line.  Each takes its ports; each can be killed and run again.

making
    ``register_parent``, ``make`` (prune, mark, admit), ``admit`` (pruned elsewhere), ``submit``
auditing
    ``audit``: evidence for every check of a policy
deciding
    ``judge``, ``approve``, ``waive``
releasing
    ``release``, ``revoke``
pointing
    ``point``, ``reconcile``: where the alias belongs, and what others moved
reporting
    ``write_report``
answering
    ``ask``: the gate question, from the ledger alone

What is done is found again by content: a verb that is run twice does its work once.  Each file is imported by
itself, because the gate question must not wait for torch.
"""
