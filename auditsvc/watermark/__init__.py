"""A watermark that survives what thieves do to weights, and a test with an exact p-value.

At release
    ``embed`` marks the surviving weights of a network, without labels, in seconds; ``trace_wiring`` notes which
    channels hang together; ``prepare_queries`` readies a test that needs a suspect's answers only; ``lock`` and
    ``lock_queries`` encrypt the unmarked weights and that test, which are secrets.  The public part is a
    ``records.Mark``: a commitment.
Afterwards
    ``read_suspect`` reads a found file, ``identify`` searches it among all releases, ``identify_answers`` does
    the same from answers alone.  ``detect`` is the test of one key.  In a dispute ``reveal_subkey`` shows one key
    of sixteen, ``verify_reveal`` tests with it, and the other fifteen stay secret.

How to read: ``keys`` (bytes to signs), ``gradients`` and ``embedding`` (the mark), ``wiring``, ``tracing``
and ``aligning`` (undoing renumbered channels), ``statistics`` and ``detecting`` (the test), ``identifying``
(the search).

A mark in weights dies with the weights: a network trained anew on the answers of a marked one
(distillation) carries nothing, and a change of structure that can't be undone hides it.  So the absence
of a mark is never evidence that a model is *not* ours, and nothing here says so.
"""

from auditsvc.watermark.detecting import Detection, detect, verify_reveal
from auditsvc.watermark.embedding import Watched, embed
from auditsvc.watermark.identifying import (
    Found,
    Identification,
    Known,
    Untried,
    Verdict,
    identify,
    identify_answers,
    verdict_of,
)
from auditsvc.watermark.keeping import Unmarked, lock, lock_queries, unlock, unlock_queries
from auditsvc.watermark.keys import Payload, derive_seed, derive_subkeys, verify_commitment, weights_digest
from auditsvc.watermark.merkle import Reveal, reveal_subkey
from auditsvc.watermark.queries import Answered, Queries, prepare_queries
from auditsvc.watermark.suspects import read_suspect
from auditsvc.watermark.tracing import trace_wiring
from auditsvc.watermark.wiring import Wiring

__all__ = [
    "Answered",
    "Detection",
    "Found",
    "Identification",
    "Known",
    "Payload",
    "Queries",
    "Reveal",
    "Unmarked",
    "Untried",
    "Verdict",
    "Watched",
    "Wiring",
    "derive_seed",
    "derive_subkeys",
    "detect",
    "embed",
    "identify",
    "identify_answers",
    "lock",
    "lock_queries",
    "prepare_queries",
    "read_suspect",
    "reveal_subkey",
    "trace_wiring",
    "unlock",
    "unlock_queries",
    "verdict_of",
    "verify_commitment",
    "verify_reveal",
    "weights_digest",
]
