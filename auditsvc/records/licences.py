"""What licences permit together: SPDX expressions, a table of common licences, and what conflicts with a declared use.

Of ``A OR B`` the alternative that permits more counts, of ``A AND B`` what both permit; an exception (``WITH``) adds
to what the licence permits.  The table says what the texts say in general; it is no legal advice, and what it does not
list is for a named person to settle (a reviewed document ``data.licence``).

Reference: ISO/IEC 5962:2021, "SPDX Specification", annex on licence expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Use = Literal["commercial", "non-commercial"]


@dataclass(frozen=True)
class Permissions:
    """What a licence permits, and which duties a release that rests on it has."""

    commercial: bool = True
    derivatives: bool = True
    attribution: bool = True
    share_alike: bool = False

    @property
    def rank(self) -> tuple[bool, bool, bool, bool]:
        """The larger, the more it permits."""
        return self.commercial, self.derivatives, not self.share_alike, not self.attribution


_FREE, _NAMED = Permissions(attribution=False), Permissions()
_COPYLEFT = Permissions(share_alike=True)
_TABLE: dict[str, Permissions] = {
    **dict.fromkeys(("cc0-1.0", "pddl-1.0", "unlicense", "0bsd", "mit-0", "nist-pd", "cc-pddc", "blessing"), _FREE),
    **dict.fromkeys(
        ("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "odc-by-1.0", "cdla-permissive-1.0",
         "cdla-permissive-2.0", "etalab-2.0", "ogl-uk-3.0", "bsl-1.0"), _NAMED,
    ),
    **dict.fromkeys(
        ("odbl-1.0", "cdla-sharing-1.0", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl-2.1", "lgpl-3.0", "mpl-2.0"),
        _COPYLEFT,
    ),
}  # fmt: skip
_CREATIVE = re.compile(r"cc-by((?:-(?:nc|nd|sa))*)-[1-4]\.[05](?:-[a-z]{2,3})?")
_TOKEN = re.compile(r"\(|\)|[A-Za-z0-9.+-]+")
_OPERATORS = frozenset({"AND", "OR", "WITH"})


def permissions(expression: str) -> Permissions | None:
    """What an SPDX expression permits; None where it is none, or names a licence that decides it and is not listed."""
    words = _TOKEN.findall(expression)
    if "".join(words) != re.sub(r"\s+", "", expression) or not words:
        return None
    try:
        found, rest = _either(words)
    except (IndexError, ValueError):
        return None
    return None if rest else found


def _either(words: list[str]) -> tuple[Permissions | None, list[str]]:
    found, words = _both(words)
    while words and words[0].upper() == "OR":
        other, words = _both(words[1:])
        known = [one for one in (found, other) if one]
        found = max(known, key=lambda one: one.rank) if known else None
    return found, words


def _both(words: list[str]) -> tuple[Permissions | None, list[str]]:
    found, words = _one(words)
    while words and words[0].upper() == "AND":
        other, words = _one(words[1:])
        found = found and other and Permissions(
            found.commercial and other.commercial, found.derivatives and other.derivatives,
            found.attribution or other.attribution, found.share_alike or other.share_alike,
        )  # fmt: skip
    return found, words


def _one(words: list[str]) -> tuple[Permissions | None, list[str]]:
    if words[0] == "(":
        found, rest = _either(words[1:])
        if rest[0] != ")":
            raise ValueError
        return found, rest[1:]
    if words[0].upper() in _OPERATORS or words[0] == ")":
        raise ValueError
    name, rest = words[0].lower().removesuffix("+").removesuffix("-only").removesuffix("-or-later"), words[1:]
    if rest and rest[0].upper() == "WITH":
        if rest[1] in "()" or rest[1].upper() in _OPERATORS:
            raise ValueError
        rest = rest[2:]
    made = _CREATIVE.fullmatch(name)
    if made is None:
        return _TABLE.get(name), rest
    limits = made[1].split("-")
    return Permissions("nc" not in limits, "nd" not in limits, True, "sa" in limits), rest


@dataclass(frozen=True)
class LicenceReview:
    """Conflicts with the use, licences that only a person can settle, and the duties of a release."""

    conflicts: tuple[str, ...]
    open: tuple[str, ...]
    duties: tuple[str, ...]


def reviewed(licences: Mapping[str, str], use: Use) -> LicenceReview:
    """``licences`` are expressions by what they are of: ``parent net``, ``faces (training of the parent)``."""
    known = {of: permissions(words) for of, words in licences.items()}
    duties = {
        "attribution": [of for of, one in known.items() if one and one.attribution],
        "the same licence": [of for of, one in known.items() if one and one.share_alike],
    }
    alike = {licences[of] for of in duties["the same licence"]}
    conflicts = list(_conflicts(licences, known, use))
    if len(alike) > 1:
        conflicts.append(f"{' and '.join(sorted(alike))} each ask for a release under the same licence")
    return LicenceReview(
        tuple(conflicts),
        tuple(f"{of}: {licences[of]}" for of, one in known.items() if one is None),
        tuple(f"{what} for {', '.join(of)}" for what, of in duties.items() if of),
    )


def _conflicts(licences: Mapping[str, str], known: Mapping[str, Permissions | None], use: Use) -> Iterator[str]:
    for of, one in known.items():
        if one and use == "commercial" and not one.commercial:
            yield f"{of} is under {licences[of]}, which permits no commercial use"
        if one and not one.derivatives:
            yield f"{of} is under {licences[of]}, which permits no derived works"
