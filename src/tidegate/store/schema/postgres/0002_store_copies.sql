-- Copies of other stores into this one, each written forth with every batch: one that was broken off goes on from here.
CREATE TABLE store_copies (
    source      text   PRIMARY KEY,          -- which store, and in which state it was
    place       text   NOT NULL,             -- where it was, as it may be shown
    started_at  bigint NOT NULL,
    last_job    uuid,                        -- jobs up to this one are here
    jobs        bigint NOT NULL DEFAULT 0,
    released    bigint NOT NULL DEFAULT 0,   -- of these, were processing there
    tables      text[] NOT NULL DEFAULT '{}', -- other tables that are here
    finished_at bigint                       -- everything is here, and was compared
);
