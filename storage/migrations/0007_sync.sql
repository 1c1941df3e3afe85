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

-- A sliding sync connection as it was when the server last stopped; its positions say whether it is still that.
CREATE TABLE sliding_connection (
    usr {int} NOT NULL,
    device {int} NOT NULL,
    name {blob} NOT NULL,
    document {blob} NOT NULL,
    saved {bigint} NOT NULL,          -- milliseconds since 1970
    PRIMARY KEY (usr, device, name)
){compact};
