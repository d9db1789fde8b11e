"""Records: frozen pydantic models with canonical JSON (RFC 8785), identified by digest; no torch, no I/O."""

from auditsvc.records.base import (
    Digest,
    Moment,
    Name,
    Record,
    TaskName,
    Text,
    Value,
    canonical_json,
    digest_of,
    faults_of,
    person_key,
)
from auditsvc.records.decision import (
    Approval,
    AuditedData,
    Decision,
    DecisionRecords,
    Judgement,
    Objection,
    Outcome,
    PastDecision,
    Verdict,
    Waiver,
)
from auditsvc.records.device import Device, DeviceMeasurement
from auditsvc.records.evidence import OVERALL, CheckFailed, Evidence, EvidenceKey, Flip, Measured, Reading, Unmeasured
from auditsvc.records.job import (
    ENDS,
    JOB_KINDS,
    AdmitRequest,
    AuditRequest,
    Job,
    JobError,
    JobEvent,
    JobId,
    JobRequest,
    JobState,
    ModelRequest,
    MonitorRequest,
    ParentRequest,
    PruneRequest,
    ReleaseRequest,
    ReportRequest,
    Shard,
)
from auditsvc.records.metric import CLEAN_CONDITION, Condition, Declarations, Family, Metric, metric_of, paired_metrics
from auditsvc.records.model import (
    Candidate,
    DatasetRef,
    FileEntry,
    Mark,
    Parent,
    Recipe,
    Submission,
    Timing,
    WatermarkKeyRecord,
    recipe_key,
)
from auditsvc.records.policy import EACH, CheckSpec, Policy, Rule, Severity, Slicing, matches
from auditsvc.records.release import (
    Alarm,
    AliasMove,
    Change,
    Distance,
    Monitoring,
    RegistryFinding,
    Release,
    Retirement,
    Revocation,
    RevocationRequest,
    Rollback,
    RollbackRequest,
    Step,
    TraceMatch,
    TraceResult,
    Verification,
    VerificationVerdict,
    Watched,
)
from auditsvc.records.terms import ReleaseTerms, TermsProposal
