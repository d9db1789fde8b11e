-- MLflow keeps its tables apart from ours.
CREATE DATABASE mlflow;
