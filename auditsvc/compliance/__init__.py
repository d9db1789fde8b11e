"""Reports for auditors and managers, built from records alone.

``report``      records to one ``Report`` (plain data), its wording, and checks of the result
``assessment``  the status of each row of a framework, from evidence and statements by people
``render``      HTML, PDF, Markdown, OSCAL and the other formats; each prints the ``Report`` and nothing else

Nothing here measures or decides, and nothing imports torch, a server or a database.
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
