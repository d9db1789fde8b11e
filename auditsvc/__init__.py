"""auditsvc decides, with evidence that anyone can check, whether a pruned vision model may be released.

The line
--------
::

    parent -- recipe --> prune > mark > admit --> Candidate --> checks --> Evidence --> gate(policy) --> Decision
                                                                                          | approvals (two people)
    report <-- assess(framework) <-------------------- Release <-- seal: sign, attest, log, move the alias

Data goes one way along it.  Checks measure, rules judge, reports explain; what is not known
is not passed.

Four concepts carry everything
------------------------------
record
    A fact that never changes (``auditsvc.records``): frozen, canonical JSON, named by its digest.
check
    Code that measures one property of a candidate next to its parent (``auditsvc.checks``).
rule
    One sentence of a policy; the gate (``auditsvc.gate``) turns rules and evidence into verdicts.
port
    The outside world as a protocol (``auditsvc.ports``); ``auditsvc.adapters`` has one file for each.

How to read this code
---------------------
Start with ``records`` (the nouns), then ``pipeline`` (the verbs, in order).  ``measuring`` says how
anything is measured, ``gate`` how anything is judged, ``provenance`` how a stranger checks it all
again.  ``bootstrap`` joins the ports to the adapters; ``cli`` and ``api`` are two faces of the same verbs.

In a process that serves a model
--------------------------------
``load_verified`` gives the bytes of a release, read once and verified, or refuses::

    weights = auditsvc.load_verified("releases/face-gender/2", trust="release.pub").weights
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditsvc.provenance import VerifiedRelease, load_verified

__all__ = ["VerifiedRelease", "load_verified"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: importing the package costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from auditsvc import provenance

    return getattr(provenance, name)
