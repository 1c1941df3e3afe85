# SPDX-License-Identifier: Apache-2.0
"""Everything that is kept: SQL for SQLite and PostgreSQL, synchronous, without twisted.

Modules of functions grouped by data; each takes a `storage.txn.Txn` first and returns plain values. One writing module
per table. Start at `storage.db` (how writes and reads run), `storage.events` (events by number, order or id),
`storage.state` (what is true now).
"""
