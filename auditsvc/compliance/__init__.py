"""Reports explain: from records to what an auditor accepts and a manager understands.

``compose`` turns records into one ``Report``, plain data; each rendering prints that and nothing else.
Nothing here measures or judges, and nothing here imports torch, a server or a database.
"""

from auditsvc.compliance.renderings.html import render_html
from auditsvc.compliance.report import GalleryItem, Report, ReportInputs, compose

__all__ = ["GalleryItem", "Report", "ReportInputs", "compose", "render_html"]
