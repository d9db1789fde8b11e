"""The verbs, in the order of the line.  Each takes its ports; each can be killed and run again.

register_parent > make > submit > audit > judge > approve > release > write_report; afterwards ask, check_release,
revoke.  What is done is found again by content: a verb that is run twice does its work once.
"""

from auditsvc.pipeline.answering import GateAnswer, ask
from auditsvc.pipeline.auditing import audit
from auditsvc.pipeline.deciding import approve, judge, latest_decision, waive
from auditsvc.pipeline.making import load_stored, make, register_parent, submit
from auditsvc.pipeline.releasing import ALIAS, release, release_folder, revoke
from auditsvc.pipeline.reporting import write_report

__all__ = [
    "ALIAS",
    "GateAnswer",
    "approve",
    "ask",
    "audit",
    "judge",
    "latest_decision",
    "load_stored",
    "make",
    "register_parent",
    "release",
    "release_folder",
    "revoke",
    "submit",
    "waive",
    "write_report",
]
