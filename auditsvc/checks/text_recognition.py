"""Character error rate and exact-match rate of a text recogniser, for every group.

Every character weighs the same: the character error rate of a corpus is its edits over its characters, not the mean
of the images' rates.  The exact-match rate is the share of texts without any error, as number plates need.

Reference: V. I. Levenshtein (1966), Soviet Physics Doklady 10 (8), 707-710.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from auditsvc.evaluation import Predictions
from auditsvc.evaluation.metrics.ratio import Formula, Numbers, RatioCheck, share
from auditsvc.records import Metric
from auditsvc.tasks.ocr import CHARACTERS, EDITS

CER = Metric(id="cer", kind="ratio", unit="%", better="lower", title="character error rate (CER)")
EXACT = Metric(id="exact_match", kind="ratio", unit="%", better="higher", title="share of texts read without an error")


class TextRecognition(RatioCheck):
    """Compare ``cer``, the character error rate (it may be over 1), and ``exact``, the share of texts without an edit.

    Emits the metrics of ``RatioCheck``, including ``rise.cer``.
    """

    id = "text_recognition"
    version = 1
    tasks = frozenset({"ocr"})
    topics = frozenset({"perf.accuracy"})

    def measures(self) -> Mapping[Metric, Formula]:
        """Error rate and exact texts."""
        return {CER: lambda sums: share(sums[:, 0], sums[:, 1]), EXACT: lambda sums: share(sums[:, 2], sums[:, 3])}

    def counts(self, answers: Predictions) -> Numbers:
        """Edits, characters, texts without an edit, texts."""
        edits, characters = (answers["tally"][:, place].astype(np.float64) for place in (EDITS, CHARACTERS))
        return np.stack((edits, characters, edits == 0, np.ones_like(edits)), axis=1)
