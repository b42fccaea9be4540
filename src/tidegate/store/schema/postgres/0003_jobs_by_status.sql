-- Lists go status by status: few among many others are found without reading those. Their order is that of the ids, in
-- words that no other index knows, as the planner would go through the primary key instead; the collation hides the
-- second index from all statements but those that ask for it (see jobs_of_worker).
DROP INDEX jobs_by_owner;
CREATE INDEX jobs_by_owner ON jobs (owner, status, uuid_send(id));
CREATE INDEX jobs_by_status ON jobs (status COLLATE "C", uuid_send(id));
