"""The boxes of a PDF's words, from ``pdftotext -bbox``: text outside its page, or over other text."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Word:
    """One word and its box in points."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: Word) -> bool:
        """Whether the two share more than a fifth of the smaller box."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        least = min((one.right - one.left) * (one.bottom - one.top) for one in (self, other))
        return wide > 0 and high > 0 and wide * high > least / 5


def pages_of(pdf: Path) -> list[tuple[float, float, list[Word]]]:
    """Width, height and words of each page."""
    command = ["pdftotext", "-bbox", str(pdf), "-"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = []
    for page in re.findall(r"<page (.*?)</page>", text, re.DOTALL):
        width, height = (float(n) for n in re.findall(r'(?:width|height)="([\d.]+)"', page)[:2])
        boxes = re.findall(r'<word xMin="(\S+)" yMin="(\S+)" xMax="(\S+)" yMax="(\S+)">(.*?)</word>', page)
        found.append((width, height, [Word(word, *map(float, box)) for *box, word in boxes]))
    return found


def overflows(pdf: Path) -> list[str]:
    """Every word that is outside its page, and every pair that overlaps."""
    faults = []
    for number, (width, height, words) in enumerate(pages_of(pdf), 1):
        faults += [
            f"page {number}: {one.text!r} is outside the page"
            for one in words
            if one.left < 0 or one.top < 0 or one.right > width or one.bottom > height
        ]
        words.sort(key=lambda one: one.top)
        for index, one in enumerate(words):
            for other in words[index + 1 :]:
                if other.top > one.bottom:
                    break
                if one.covers(other):
                    faults.append(f"page {number}: {one.text!r} is over {other.text!r}")
    return faults
