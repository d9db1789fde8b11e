"""How well the images represent a target: the shares that a census, or the use of the model, says.

A target names cells, products of slices, with their shares, which are scaled to add up to 1.  The distance is the total
variation: the share of the images that would have to be of other cells.  Its interval holds for every distribution and
sample size: wide with many cells, never too narrow.

Reference: T. Weissman et al. (2003), "Inequalities for the L1 Deviation of the Empirical Distribution", HP Labs report
HPL-2003-97R1.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets.dataset import Slices
from auditsvc.datasets.slicing import AND
from auditsvc.errors import InvalidInput, NotFound

SHARE = "share"
"""The column of a target table that has the shares; every other one is an attribute."""

Target = Mapping[str, float]
"""The share of each cell: ``gender=F & age_group=65+``."""


@dataclass(frozen=True)
class Representation:
    """Distance from the target with the ends of its interval, and for each cell its images and how many are missing."""

    distance: float
    low: float
    high: float
    images: int
    cells: dict[str, tuple[int, int]]
    """Images, and how many more it would have in a set of this size with the target's shares."""

    @property
    def empty(self) -> tuple[str, ...]:
        """Cells of the target without an image."""
        return tuple(name for name, (count, _) in self.cells.items() if count == 0)

    @property
    def missing(self) -> int:
        """Images that are missing in all cells together."""
        return sum(missing for _, missing in self.cells.values())


def representation(target: Target, slices: Slices, alpha: float) -> Representation:
    """Compare the images with a target; clusters count as one image each for the interval.

    Raises:
        InvalidInput: no cell with a positive share, a column that the data set does not have, or cells that overlap.
    """
    total = math.fsum(target.values())
    if not target or total <= 0 or not all(math.isfinite(one) and one >= 0 for one in target.values()):
        raise InvalidInput("a target needs cells with shares that are not negative and add up to more than 0")
    inside = np.stack([_members(cell, slices) for cell in target])
    twice = np.flatnonzero(inside.sum(0) > 1)
    if len(twice):
        names = [cell for cell, one in zip(target, inside[:, twice[0]], strict=True) if one]
        raise InvalidInput(f"cells of the target overlap: {' and '.join(names)}; name products of the same columns")
    counts, images = inside.sum(1), slices.images
    wanted = np.array(list(target.values())) / total
    distance = float(np.abs(counts / images - wanted).sum() + 1 - counts.sum() / images) / 2
    independent = images if slices.clusters is None else len(np.unique(slices.clusters))
    reach = math.sqrt((math.log(2) * (len(target) + 1) - math.log(alpha)) / (2 * independent))
    missing = np.ceil(np.maximum(wanted * images - counts, 0) - 1e-9).astype(int)
    cells = dict(zip(target, zip(counts.tolist(), missing.tolist(), strict=True), strict=True))
    return Representation(distance, max(distance - reach, 0.0), min(distance + reach, 1.0), images, cells)


def _members(cell: str, slices: Slices) -> NDArray[np.bool_]:
    """``(N,)``: whether each image is in a cell; a value that no image has is an empty one."""
    found, columns = np.ones(slices.images, bool), {column.column: column for column in slices.columns}
    for part in cell.split(AND):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name not in columns:
            known = ", ".join(columns) or "none"
            raise InvalidInput(f"the target has the cell {cell!r}, and the data set no column {name!r}; it has {known}")
        labels = columns[name].labels
        found &= columns[name].codes == (labels.index(value) if value in labels else -2)
    return found


def read_target(path: Path) -> dict[str, float]:
    """The target of a CSV table: a column ``share`` (or counts), every other column an attribute of the data set.

    Raises:
        NotFound: there is no such file.
        InvalidInput: no column ``share`` or no attribute, a cell twice, or a share that is no number; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError as error:
        raise NotFound(f"there is no target table {path}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"the target table {path} can't be read: {error}") from error
    if not rows or SHARE not in rows[0] or len(rows[0]) < 2:
        raise InvalidInput(f"{path}: a target table has a column {SHARE!r} and one for each attribute")
    found: dict[str, float] = {}
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InvalidInput(f"{path}, line {line}: another number of columns than the first line has")
        share = row.pop(SHARE)
        cell = AND.join(f"{name}={value.strip()}" for name, value in row.items())
        try:
            number = float(share)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{path}, line {line}: the share {share!r} is no number") from error
        if cell in found or not math.isfinite(number) or number < 0:
            raise InvalidInput(f"{path}, line {line}: {cell} is given twice, or its share is no number of 0 or more")
        found[cell] = number
    return found
