"""A watermark that survives what thieves do to weights, and a test with an exact p-value.

* ``embed`` marks the surviving weights of a network, without labels, in seconds;
* ``detect`` tests a suspect's weights against the stored original;
* ``derive_seed``, ``Payload`` and ``weights_digest`` make what both need.

A mark in weights dies with the weights: a network trained anew on the answers of a marked one
(distillation) carries nothing, and a change of structure that can't be undone hides it.  So the absence
of a mark is never evidence that a model is *not* ours, and nothing here says so.
"""

from auditsvc.watermark.detecting import Detection, detect
from auditsvc.watermark.embedding import embed
from auditsvc.watermark.keys import Payload, derive_seed, derive_subkeys, weights_digest
from auditsvc.watermark.merkle import Reveal, require_revealed, reveal_subkey

__all__ = [
    "Detection",
    "Payload",
    "Reveal",
    "derive_seed",
    "derive_subkeys",
    "detect",
    "embed",
    "require_revealed",
    "reveal_subkey",
    "weights_digest",
]
