"""A model registry in memory."""

from __future__ import annotations

from pathlib import Path

from auditsvc.errors import Conflict, NotFound
from auditsvc.ports import Placed, Registered
from auditsvc.records import Candidate, Digest, Parent


class MemoryRegistry:
    """``ports.Registry``: versions are numbered from 1 for each model; ``tags`` and ``aliases`` lie open to tests."""

    def __init__(self) -> None:
        self.tags: dict[tuple[str, str], dict[str, str]] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.stages: dict[tuple[str, str], str] = {}
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}

    def register_parent(self, parent: Parent, folder: Path) -> str:
        tags = {"auditsvc.role": "parent", "source": parent.source, "licence": parent.licence}
        return self._register(parent.model, parent.digest, tags, folder)

    def register_candidate(self, candidate: Candidate, folder: Path, parent_version: str) -> str:
        above = self._tags(candidate.model, parent_version)
        if above["auditsvc.digest"] != candidate.parent:
            raise Conflict(f"{candidate.model}/{parent_version} is not the candidate's parent")
        tags = {
            "auditsvc.role": "candidate",
            "auditsvc.parent_digest": candidate.parent,
            "auditsvc.parent_version": parent_version,
            "licence": above["licence"],
        }
        if candidate.recipe:
            tags["auditsvc.recipe"] = candidate.recipe.canonical().decode()
        return self._register(candidate.model, candidate.digest, tags, folder)

    def _register(self, model: str, digest: Digest, tags: dict[str, str], folder: Path) -> str:
        versions = {version: found for (name, version), found in self.tags.items() if name == model}
        for version, found in versions.items():
            if found["auditsvc.digest"] == digest:
                return version
        new = str(len(versions) + 1)
        self.tags[model, new] = {**tags, "auditsvc.digest": digest}
        self.files[model, new] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        return new

    def hold(self, candidate: Candidate, version: str, files: dict[str, bytes]) -> None:
        """Hold these files as a version of the candidate's model, as if it had been registered."""
        self.tags[candidate.model, version] = {"auditsvc.digest": candidate.digest}
        self.files[candidate.model, version] = dict(files)

    def checkout(self, model: str, version: str, folder: Path) -> Path:
        self._tags(model, version)
        for name, data in self.files[model, version].items():
            (folder / name).write_bytes(data)
        return folder

    def _tags(self, model: str, version: str) -> dict[str, str]:
        if (model, version) not in self.tags:
            raise NotFound(f"no version {model}/{version}")
        return self.tags[model, version]

    def registered(self, model: str, version: str) -> Registered:
        return Registered(self._tags(model, version).get("auditsvc.digest"))

    def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        self._tags(model, version).update(tags)

    def move_alias(self, model: str, alias: str, version: str) -> None:
        self._tags(model, version)
        self.aliases[model, alias] = version

    def drop_alias(self, model: str, alias: str) -> None:
        self.aliases.pop((model, alias), None)

    def aliased(self, model: str, alias: str) -> str | None:
        return self.aliases.get((model, alias))

    def placed(self) -> dict[str, Placed]:
        models = sorted({model for model, _ in [*self.aliases, *self.stages]})
        return {model: Placed(_of(self.aliases, model), _of(self.stages, model)) for model in models}

    def set_stage(self, model: str, version: str, stage: str | None) -> None:
        self._tags(model, version)
        for key in [key for key, held in self.stages.items() if key[0] == model and held == version]:
            del self.stages[key]
        if stage:
            self.stages[model, stage] = version


def _of(placed: dict[tuple[str, str], str], model: str) -> dict[str, str]:
    return {name: version for (owner, name), version in placed.items() if owner == model}
