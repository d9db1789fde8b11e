"""Where MLflow's aliases and stages are, page by page, as everybody left them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditsvc.ports import Placed

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PAGE = 100


def placed(client: MlflowClient) -> dict[str, Placed]:
    """The aliases and stages of every model that has any; MLflow names the newest version of each stage."""
    found: dict[str, Placed] = {}
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        for model in page:
            aliases = {str(name): str(version) for name, version in model.aliases.items()}
            stages = {one.current_stage: str(one.version) for one in model.latest_versions}
            stages.pop("None", None)
            if aliases or stages:
                found[str(model.name)] = Placed(aliases, stages)
        token = page.token
        if not token:
            return found
