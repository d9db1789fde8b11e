"""Clusters that a data set does not declare, as names and times of its images suggest them.

Frames of one video, shots of one burst, pictures of one patient are not independent, and intervals that take them as
independent approve what they should not.  Names say it (``video3_frame0007.png``, ``p12_001.png``), and so do times of
one camera that are seconds apart, in EXIF or in names.  A suspicion is no proof: people declare the clusters, or that
there are none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

SHARE, FEWEST = 0.1, 10
"""The share and the number of images from which on groups are suspected."""
BURST_S = 5.0
"""Seconds between two pictures of one camera that are taken to be of one thing."""
GROUPS = 10
"""The least number of groups with counters of their own."""

_THINGS = "video|vid|clip|shot|scene|burst|seq|sequence|take|patient|subject|session"
_GROUP = re.compile(rf"(?:^|[^a-z])(?:{_THINGS})[ _.-]?\d+", re.IGNORECASE)
_FRAME = re.compile(r"(?:^|[^a-z])(?:frame|frm)[ _.-]?\d+", re.IGNORECASE)
_COUNTER = re.compile(r"(.*\D)(\d+)\D*")
_STAMP = re.compile(r"(?<!\d)((?:19|20)\d{6})[_T-]?(\d{6})(?!\d)")

Taken = tuple[str, float]
"""A camera, and when it took the picture, in seconds."""


def suspected_clusters(
    names: Sequence[str], labels: Sequence[str], taken: Sequence[Taken | None], clusters: NDArray[np.int64] | None
) -> tuple[str, ...]:
    """What suggests groups of dependent images that ``clusters`` do not join, in words; nothing where nothing does.

    ``names``, ``labels`` and ``taken`` have one entry for each image; ``taken`` is empty where no image has a time.
    """
    kinds: dict[str, Sequence[Hashable]] = {
        "of one video, scene or person by their names": [_group(name) for name in names],
        "of one counter in their names": _counters(names, labels),
        f"of one camera within {BURST_S:g} s": _bursts([_time(name, one) for name, one in
                                                        zip(names, taken or [None] * len(names), strict=True)]),
    }  # fmt: skip
    return tuple(words for what, keys in kinds.items() for words in _words(what, names, keys, clusters))


def _words(
    what: str, names: Sequence[str], keys: Sequence[Hashable], clusters: NDArray[np.int64] | None
) -> Iterator[str]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if key is not None:
            groups[key].append(place)
    found = [places for places in groups.values() if len(places) > 1]
    if clusters is not None:
        found = [places for places in found if len(np.unique(clusters[places])) > 1]
    images = sum(map(len, found))
    if images >= max(FEWEST, SHARE * len(names)):
        shown = ", ".join(names[place] for place in max(found, key=len)[:2])
        yield f"{images} of {len(names)} images are in {len(found)} groups {what} ({shown}, …)"


def _group(name: str) -> str | None:
    """The name up to the number of its video; for frames without one, up to the word."""
    if found := list(_GROUP.finditer(name)):
        return name[: found[-1].end()]
    frame = _FRAME.search(name)
    return name[: frame.start() + 1] if frame else None


def _counters(names: Sequence[str], labels: Sequence[str]) -> list[str | None]:
    """The names before their counter, where many counters begin at 0 or 1 and leave nothing out.

    A counter of each class is usual and says nothing.
    """
    parts = [_COUNTER.fullmatch(name.rpartition(".")[0] or name) for name in names]
    numbers: dict[str, list[int]] = defaultdict(list)
    for part in parts:
        if part:
            numbers[part[1]].append(int(part[2]))
    several = [found for found in numbers.values() if len(found) > 1]
    whole = sum(min(found) <= 1 and max(found) - min(found) + 1 == len(found) for found in several)
    prefixes = [part[1] if part else None for part in parts]
    if len(several) < max(GROUPS, 2 * len(set(labels))) or whole < 0.8 * len(several):
        return [None] * len(names)
    return prefixes


def _time(name: str, taken: Taken | None) -> Taken | None:
    """The EXIF time, or one in the name."""
    stamp = None if taken else _STAMP.search(name)
    if stamp is None:
        return taken
    try:
        return name[: stamp.start()], datetime.strptime(stamp[1] + stamp[2], "%Y%m%d%H%M%S").timestamp()
    except ValueError:
        return None


def _bursts(taken: Sequence[Taken | None]) -> list[int | None]:
    """The number of each image's burst; a time that most images share is when they were copied."""
    found: list[int | None] = [None] * len(taken)
    times = Counter(one for one in taken if one)
    if times and times.most_common(1)[0][1] * 2 > len(taken):
        return found
    number, before = 0, ("", -np.inf)
    for one, place in sorted((one, place) for place, one in enumerate(taken) if one):
        number += one[0] != before[0] or one[1] - before[1] > BURST_S
        found[place], before = number, one
    return found
