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

from auditsvc.watermark.channel_graph import ChannelGraph, trace_channels
from auditsvc.watermark.detector import Detection, detect, verify_reveal
from auditsvc.watermark.embedder import Watched, embed
from auditsvc.watermark.escrow import Unmarked, decrypt_queries, decrypt_unmarked, encrypt_queries, encrypt_unmarked
from auditsvc.watermark.key_matching import (
    Identification,
    KeyMatch,
    KeyToTry,
    SkippedKey,
    Verdict,
    identify,
    identify_answers,
    verdict_of,
)
from auditsvc.watermark.query_set import Answered, Queries, prepare_queries
from auditsvc.watermark.suspect_loader import read_suspect
from auditsvc.watermark.watermark_keys import (
    Payload,
    Reveal,
    derive_seed,
    derive_subkeys,
    reveal_subkey,
    verify_commitment,
    weights_digest,
)

__all__ = [
    "Answered",
    "ChannelGraph",
    "Detection",
    "Identification",
    "KeyMatch",
    "KeyToTry",
    "Payload",
    "Queries",
    "Reveal",
    "SkippedKey",
    "Unmarked",
    "Verdict",
    "Watched",
    "decrypt_queries",
    "decrypt_unmarked",
    "derive_seed",
    "derive_subkeys",
    "detect",
    "embed",
    "encrypt_queries",
    "encrypt_unmarked",
    "identify",
    "identify_answers",
    "prepare_queries",
    "read_suspect",
    "reveal_subkey",
    "trace_channels",
    "verdict_of",
    "verify_commitment",
    "verify_reveal",
    "weights_digest",
]
