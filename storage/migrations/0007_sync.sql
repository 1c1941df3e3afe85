-- SPDX-License-Identifier: Apache-2.0
-- What sync keeps for a client: its filters and its sliding sync connections.

-- number counts from 0 for each user; the same filter stored twice keeps its number.
CREATE TABLE filter (
    usr {int} NOT NULL,
    number {int} NOT NULL,
    digest {blob} NOT NULL,
    body {blob} NOT NULL,
    PRIMARY KEY (usr, number),
    UNIQUE (usr, digest)
){compact};
