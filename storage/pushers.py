# SPDX-License-Identifier: Apache-2.0
"""Where users want to be notified: their pushers, and how far each has been told.

Announces `Change(pos, "pusher", user=usr)` when a user's pushers change.
"""

from collections.abc import Sequence

import attrs

from storage.txn import Change, Txn


@attrs.frozen(slots=True)
class Pusher:
    """One pusher. `body` is what the client sent, as JSON; `device` and `token` are those it was set with (0: none).

    `done` is the last position whose events it was told of; `failing_since` when its gateway stopped taking them, or 0.
    """

    usr: int
    app_id: str
    pushkey: str
    kind: str
    body: bytes
    device: int
    token: int
    enabled: bool
    created: int
    done: int
    failing_since: int


_COLUMNS = "usr, app_id, pushkey, kind, body, device, token, enabled, created, done, failing_since"


def of_user(txn: Txn, usr: int) -> list[Pusher]:
    rows = txn.all(f"SELECT {_COLUMNS} FROM pusher WHERE usr = ? ORDER BY created, app_id, pushkey", (usr,))  # noqa: S608
    return [_read(row) for row in rows]


def all_of(txn: Txn) -> list[Pusher]:
    """Every pusher there is, for a server that starts."""
    return [_read(row) for row in txn.all(f"SELECT {_COLUMNS} FROM pusher")]  # noqa: S608


def put(txn: Txn, pusher: Pusher, alone: bool) -> None:
    """Set a pusher; `alone` removes those of other users with the same app and key."""
    key = (pusher.app_id.encode(), pusher.pushkey.encode())
    others = txn.all("SELECT usr FROM pusher WHERE app_id = ? AND pushkey = ? AND usr <> ?", (*key, pusher.usr))
    for (other,) in others if alone else ():
        remove(txn, other, pusher.app_id, pusher.pushkey)
    pos = txn.position()
    values = (*key, pusher.kind.encode(), pusher.body, pusher.device, pusher.token, int(pusher.enabled), pusher.created)
    txn.put(
        f"INSERT INTO pusher ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        " ON CONFLICT (usr, app_id, pushkey) DO UPDATE SET kind = excluded.kind, body = excluded.body,"
        " device = excluded.device, token = excluded.token, enabled = excluded.enabled,"
        " failing_since = excluded.failing_since",
        (pusher.usr, *values, pos, 0),
    )
    txn.announce(Change(pos, "pusher", user=pusher.usr))


def remove(txn: Txn, usr: int, app_id: str, pushkey: str) -> bool:
    """False when there was none."""
    gone = txn.run(
        "DELETE FROM pusher WHERE usr = ? AND app_id = ? AND pushkey = ?", (usr, app_id.encode(), pushkey.encode())
    )
    if gone:
        txn.announce(Change(txn.position(), "pusher", user=usr))
    return gone > 0


def remove_of_tokens(txn: Txn, usr: int, keep_token: int | None = None) -> None:
    """Remove the pushers set with other access tokens of the user (all, where none is kept), as a new password asks."""
    gone = txn.run("DELETE FROM pusher WHERE usr = ? AND token <> ?", (usr, -1 if keep_token is None else keep_token))
    if gone:
        txn.announce(Change(txn.position(), "pusher", user=usr))


def remove_of_devices(txn: Txn, usr: int, devices: Sequence[int]) -> None:
    """Remove the pushers of devices that are logged out."""
    if not devices:
        return
    condition, params = txn.any("device", list(devices))
    if txn.run(f"DELETE FROM pusher WHERE usr = ? AND {condition}", [usr, *params]):  # noqa: S608
        txn.announce(Change(txn.position(), "pusher", user=usr))


def note_progress(txn: Txn, pusher: Pusher, done: int, failing_since: int) -> None:
    """Keep how far a pusher has been told, if it is still there."""
    txn.put(
        "UPDATE pusher SET done = ?, failing_since = ? WHERE usr = ? AND app_id = ? AND pushkey = ?",
        (done, failing_since, pusher.usr, pusher.app_id.encode(), pusher.pushkey.encode()),
    )


def _read(row: Sequence[object]) -> Pusher:
    usr, app_id, pushkey, kind, body, device, token, enabled, created, done, failing = row
    assert isinstance(app_id, bytes) and isinstance(pushkey, bytes) and isinstance(kind, bytes)
    assert isinstance(body, bytes) and isinstance(usr, int) and isinstance(device, int) and isinstance(token, int)
    assert isinstance(created, int) and isinstance(done, int) and isinstance(failing, int)
    return Pusher(
        usr=usr,
        app_id=app_id.decode(),
        pushkey=pushkey.decode(),
        kind=kind.decode(),
        body=body,
        device=device,
        token=token,
        enabled=bool(enabled),
        created=created,
        done=done,
        failing_since=failing,
    )
