"""Content-addressed files: in a folder of this machine, or in object storage."""

from auditsvc.adapters.blobs.files import FileBlobs

__all__ = ["FileBlobs"]
