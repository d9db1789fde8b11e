"""Multi-object tracking: objects in each frame of a sequence.  The score is the frame's F1 at IoU 0.5.

Each frame is scored alone, as an image of a detector.  Identities over time are evaluated by the check ``tracks``,
sequence by sequence.
"""

from __future__ import annotations

from auditsvc.tasks.detection import Detection


class Tracking(Detection):
    """As ``Detection``; targets are ``(N, M, 6)``: class, box, and the object's number in its sequence."""

    name = "tracking"
    target_kind = "tracks"
