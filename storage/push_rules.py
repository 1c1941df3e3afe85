# SPDX-License-Identifier: Apache-2.0
"""Which users changed their push rules, and how.

Announces `Change(pos, "push_rules", user=usr)`.
"""

from collections.abc import Sequence

import orjson

from homeserver.protocol.push_rules import RuleSet, rule_set
from storage.txn import Change, Txn


def load(txn: Txn, usr: int) -> RuleSet:
    """All rules of a local user, default ones included."""
    owner = txn.one("SELECT id FROM usr WHERE nid = ?", (usr,))
    if owner is None:
        raise ValueError(f"no user has number {usr}")
    row = txn.one("SELECT rules FROM push_rules WHERE usr = ?", (usr,))
    return rule_set(owner[0].decode(), None if row is None else bytes(row[0]))


def load_changed(txn: Txn, usrs: Sequence[int]) -> dict[int, RuleSet]:
    """The rules of those among `usrs` who changed any."""
    if not usrs:
        return {}
    condition, params = txn.any("p.usr", list(usrs))
    rows = txn.all(
        f"SELECT p.usr, u.id, p.rules FROM push_rules p JOIN usr u ON u.nid = p.usr WHERE {condition}",  # noqa: S608
        params,
    )
    return {usr: rule_set(user_id.decode(), bytes(rules)) for usr, user_id, rules in rows}


def save(txn: Txn, usr: int, rules: RuleSet) -> int:
    """Keep a user's rules; returns the position of the change."""
    pos = txn.position()
    txn.put(
        "INSERT INTO push_rules (usr, rules, pos) VALUES (?, ?, ?)"
        " ON CONFLICT (usr) DO UPDATE SET rules = excluded.rules, pos = excluded.pos",
        (usr, rules.document(), pos),
    )
    txn.announce(Change(pos, "push_rules", user=usr))
    return pos


def changed_at(txn: Txn, usr: int) -> int:
    """The position of the user's last change; 0: never changed."""
    row = txn.one("SELECT pos FROM push_rules WHERE usr = ?", (usr,))
    return 0 if row is None else int(row[0])


def rendered(txn: Txn, usr: int) -> bytes:
    """The content of the user's `m.push_rules` event."""
    return orjson.dumps({"global": load(txn, usr).render()})


def forget_user(txn: Txn, usr: int) -> None:
    """Remove a user's changes, when the account is erased."""
    txn.run("DELETE FROM push_rules WHERE usr = ?", (usr,))
