-- Manifests of a SubmissionSet that is sent again (08 §4.7): looked up inside the patient's lock.
CREATE INDEX entries_by_submission ON entries (submission_uuid);
