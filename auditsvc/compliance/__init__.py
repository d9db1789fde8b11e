"""Reports explain: from records to what an auditor accepts and a manager understands.

``compose`` turns records into one ``Report``, plain data; each rendering prints that and nothing else.
``assess`` holds the records against a framework, row by row; ``lint`` looks for what a report must never do.
Nothing here measures or judges, and nothing here imports torch, a server or a database.

How to read it: ``inputs`` and ``human`` (what goes in), ``framework`` (what it is held against), ``kinds`` and
``rowrules`` (how a row gets its status), ``model`` (what comes out), ``renderings`` (how it looks).
"""

from auditsvc.compliance.assess import assess
from auditsvc.compliance.dossier import Dossier
from auditsvc.compliance.framework import Framework, load_frameworks, load_questionnaire
from auditsvc.compliance.human import Answers, ChangePlan, ChangeVerdict, Document
from auditsvc.compliance.incidents import Incident, Watch
from auditsvc.compliance.inputs import Sibling
from auditsvc.compliance.linking import follow
from auditsvc.compliance.lint import lint
from auditsvc.compliance.renderings.formats import FORMATS, render, render_files
from auditsvc.compliance.renderings.html import render_html
from auditsvc.compliance.report import GalleryItem, Report, ReportInputs, compose

__all__ = [
    "FORMATS",
    "Answers",
    "ChangePlan",
    "ChangeVerdict",
    "Document",
    "Dossier",
    "Framework",
    "GalleryItem",
    "Incident",
    "Report",
    "ReportInputs",
    "Sibling",
    "Watch",
    "assess",
    "compose",
    "follow",
    "lint",
    "load_frameworks",
    "load_questionnaire",
    "render",
    "render_files",
    "render_html",
]
