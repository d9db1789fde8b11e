"""Objects in each frame of a sequence, followed from frame to frame.  The score is the frame's F1 at half overlap.

What a frame shows can be judged alone, and is, like any image of a detector.  Who is who over time can't: the check
``tracks`` follows each sequence as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from auditsvc.tasks.detection import Detection


@dataclass(frozen=True)
class Tracking(Detection):
    """As ``Detection``; targets are ``(N, M, 6)``: class, box, and the number of the object in its sequence."""

    name = "tracking"
