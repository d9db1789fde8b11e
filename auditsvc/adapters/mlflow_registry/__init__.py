"""Models in MLflow: versions, lineage, tags, aliases, through MLflow's own client.

``registry`` is what is registered and how, ``opening`` how the store is opened and what its errors mean.  MLflow takes
over a second to import, so it is imported on first use only.
"""

from auditsvc.adapters.mlflow_registry.registry import MlflowRegistry

__all__ = ["MlflowRegistry"]
