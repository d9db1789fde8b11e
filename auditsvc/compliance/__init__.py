"""Reports explain: from records to what an auditor accepts and a manager understands.

``compose`` turns records into one ``Report``, plain data; each rendering prints that and nothing else.
``assess`` holds the records against a framework, row by row; ``lint`` looks for what a report must never do.
Nothing here measures or judges, and nothing here imports torch, a server or a database.

How to read it: ``inputs`` and ``human`` (what goes in), ``framework`` (what it is held against), ``kinds`` and
``rowrules`` (how a row gets its status), ``model`` (what comes out), ``renderings`` (how it looks).
"""

from auditsvc.compliance.assessment.assessment_context import AssessmentContext, Sibling
from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document, Incident, Watch
from auditsvc.compliance.assessment.framework import Framework, load_frameworks, load_questionnaire
from auditsvc.compliance.assessment.rules import assess
from auditsvc.compliance.render import FORMATS, render, render_files
from auditsvc.compliance.render.html import render_html
from auditsvc.compliance.report.build import GalleryItem, Report, ReportInputs, build_report
from auditsvc.compliance.report.lint import check_report_numbers, lint_report

__all__ = [
    "FORMATS",
    "Answers",
    "AssessmentContext",
    "ChangePlan",
    "ChangeVerdict",
    "Document",
    "Framework",
    "GalleryItem",
    "Incident",
    "Report",
    "ReportInputs",
    "Sibling",
    "Watch",
    "assess",
    "build_report",
    "check_report_numbers",
    "lint_report",
    "load_frameworks",
    "load_questionnaire",
    "render",
    "render_files",
    "render_html",
]
