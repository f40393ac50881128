-- Pages of a study's receipts, in the order of their ids, without sorting all of them for each.
CREATE INDEX receipts_by_study_in_order ON receipts (study_uid, id);
DROP INDEX receipts_by_study;
