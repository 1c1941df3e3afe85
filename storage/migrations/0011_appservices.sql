-- SPDX-License-Identifier: Apache-2.0
-- How far each application service has been told what happened.

CREATE TABLE appservice (
    id {blob} NOT NULL PRIMARY KEY,
    position {bigint} NOT NULL,      -- everything up to there is acknowledged
    txn {blob},                      -- the transaction under way: its id, how far it reaches, what it says,
    upto {bigint} NOT NULL,
    body {blob},
    devices {blob}                   -- and the devices whose messages it carries, as a JSON list of numbers
) {hot};
