"""Weight watermarking that survives common modifications, with an exact p-value.

At release
    ``embed`` watermarks the weights of a network without labels; ``trace_channels`` records which channels are
    coupled; ``prepare_queries`` prepares a test that needs a suspect's answers only.  ``encrypt_unmarked`` and
    ``encrypt_queries`` encrypt the unmarked weights and that test, both secret.  ``records.Mark`` is the public
    commitment.
Afterwards
    ``read_suspect`` reads a suspect file; ``identify`` compares it with all releases, ``identify_answers`` does the
    same from answers alone; ``detect`` tests one key.  In a dispute ``reveal_subkey`` discloses one of sixteen
    sub-keys and ``verify_reveal`` tests with it; the other fifteen stay secret.

A watermark in weights does not survive distillation, nor a change of structure that cannot be undone.  So a missing
watermark is never evidence that a model is *not* a copy.
"""

from auditsvc.watermark.channel_graph import ChannelGraph, trace_channels
from auditsvc.watermark.detector import Detection, detect, verify_reveal
from auditsvc.watermark.embedder import Watched, embed
from auditsvc.watermark.escrow import Unmarked, decrypt_queries, decrypt_unmarked, encrypt_queries, encrypt_unmarked
from auditsvc.watermark.gradients import prepare
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
