-- A database role for workers.  It records what was measured; it can't approve, waive, set terms, release, revoke, roll
-- back or retire keys, and it sees no tokens, sessions and webhooks.  Run it as the owner of the database after the first
-- start and after every upgrade, then give the workers this role in AUDITSVC_LEDGER_URL; service and signer stay owners:
--   psql -v ON_ERROR_STOP=1 -v password=... -f docker/worker-role.sql auditsvc
SELECT 'CREATE ROLE auditsvc_worker LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'auditsvc_worker') \gexec
ALTER ROLE auditsvc_worker PASSWORD :'password';
GRANT USAGE ON SCHEMA public TO auditsvc_worker;
GRANT SELECT ON auditsvc_revision, record, subject, submission, decision, approval, waiver, revocation, retirement, terms,
    release_rollback, watch, person, leaf, node TO auditsvc_worker;
GRANT INSERT ON record, subject, submission, decision, person, leaf, node TO auditsvc_worker;
ALTER TABLE record ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS read ON record;
DROP POLICY IF EXISTS worker ON record;
CREATE POLICY read ON record FOR SELECT USING (true);
CREATE POLICY worker ON record FOR INSERT TO auditsvc_worker
    WITH CHECK (kind NOT IN ('approval', 'objection', 'waiver', 'terms-proposal', 'terms', 'release', 'revocation-request',
        'revocation', 'rollback-request', 'rollback', 'retirement', 'device', 'answers', 'document', 'change-plan',
        'change-verdict', 'incident', 'incident-watch', 'watch-proposal', 'watch',
        'alarm-mute', 'data-card', 'consent'));
-- The job queue.
GRANT SELECT ON auditsvc_jobs_revision TO auditsvc_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_worker, job_event, job_crash TO auditsvc_worker;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO auditsvc_worker;
GRANT USAGE ON SCHEMA dbos TO auditsvc_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dbos TO auditsvc_worker;
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA dbos TO auditsvc_worker;
-- Observations of releases in use, where a release is watched.
SELECT 'GRANT SELECT ON auditsvc_observations_revision TO auditsvc_worker; '
    'GRANT SELECT, INSERT, UPDATE, DELETE ON observation, observation_label, watch_state TO auditsvc_worker'
    WHERE to_regclass('observation') IS NOT NULL \gexec
