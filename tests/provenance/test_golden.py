"""A release that a version of auditsvc made is valid for ever.

``golden/<version>/`` holds one for each version.  Never change one; ``python -m tests.provenance.test_golden`` adds
that of a new version.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from auditsvc import __version__
from auditsvc.provenance import TrustRoot, verify
from tests.provenance.forge import Forge
from tests.provenance.sample import AT

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("trust", ["release.pub", "trust-policy.json"])
def test_a_release_of_every_version_is_valid_for_ever(version: str, trust: str) -> None:
    folder = GOLDEN / version
    found = verify(
        folder / "release", folder / "attest", trust=TrustRoot.load(folder / trust), at=AT.replace(year=2126)
    )
    assert (found.verdict, found.reasons) == ("VALID", ())


def test_this_version_has_one() -> None:
    assert __version__ in VERSIONS


def main() -> None:
    """Make the golden release of this version, once."""
    target = GOLDEN / __version__
    with tempfile.TemporaryDirectory() as place:
        forge = Forge(Path(place))
        target.mkdir(parents=True)
        for part in (forge.release, forge.attest):
            shutil.copytree(part, target / part.name)
        for name in ("release.pub", "trust-policy.json"):
            shutil.copy(forge.folder / "keys" / name, target / name)


if __name__ == "__main__":
    main()
