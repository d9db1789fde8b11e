"""The file formats: signatures, statements, logs, manifests."""
