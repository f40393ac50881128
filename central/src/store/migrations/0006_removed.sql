-- Metadata that ITI-62 and documents that ITI-86 took away (profile 08 §7.2). The rows stay, with their bytes, for ever; no query,
-- rule or retrieve sees them. NULL: not removed.
ALTER TABLE entries ADD COLUMN removed_at BIGINT;
ALTER TABLE submission_sets ADD COLUMN removed_at BIGINT;
ALTER TABLE folders ADD COLUMN removed_at BIGINT;
ALTER TABLE associations ADD COLUMN removed_at BIGINT;
ALTER TABLE documents ADD COLUMN removed_at BIGINT;
