-- SPDX-License-Identifier: Apache-2.0
-- Files that users uploaded. The bytes lie on disk under their SHA-256, once, however often they were uploaded.

CREATE TABLE media (
    nid {bigpk},
    origin {blob} NOT NULL,          -- server name; empty: this server
    id {blob} NOT NULL,
    usr {int} NOT NULL,              -- 0: nobody here
    created {bigint} NOT NULL,
    expires {bigint},                -- when an id without content ends
    content {blob},                  -- SHA-256; NULL: not uploaded yet
    size {bigint} NOT NULL,
    kind {blob},                     -- content type as it was given
    name {blob},                     -- file name as it was given
    open {small} NOT NULL,           -- 1: served without authentication, too
    quarantined {small} NOT NULL,
    released {bigint},               -- since when the uploader shows it no more; 0: since the last sweep; -1: others do
    UNIQUE (origin, id)
);
CREATE INDEX media_content ON media (content);
CREATE INDEX media_pending ON media (usr, expires) WHERE content IS NULL;
CREATE INDEX media_released ON media (released) WHERE released >= 0;
CREATE INDEX media_usage ON media (usr, size);

-- What the virus scanner said of a content.
CREATE TABLE media_verdict (
    content {blob} PRIMARY KEY,      -- SHA-256
    threat {blob},                   -- NULL: nothing was found
    scanned {bigint} NOT NULL
);

-- Contents that no media has any more; their files are deleted a while later.
CREATE TABLE media_doomed (
    content {blob} PRIMARY KEY
);

-- Which events show which media of this server.
CREATE TABLE media_ref (
    event {bigint} NOT NULL,
    media {bigint} NOT NULL,
    PRIMARY KEY (event, media)
){compact};
CREATE INDEX media_ref_media ON media_ref (media);
