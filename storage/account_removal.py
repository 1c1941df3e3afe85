# SPDX-License-Identifier: Apache-2.0
"""What goes when an account is closed: first all ways in, and what it kept when it has left its rooms."""

from collections.abc import Callable

from storage import (
    account_data,
    accounts,
    device_removal,
    devices,
    e2e_removal,
    openid,
    presence,
    profiles,
    push_rules,
    threepids,
    tokens,
    user_directory,
)
from storage.txn import Change, Txn

ON_ACCOUNT_CLOSED: tuple[Callable[[Txn, int], None], ...] = (
    profiles.delete_all,
    account_data.forget_user,
    push_rules.forget_user,
    presence.forget_user,
    e2e_removal.forget_user,
    user_directory.drop_person,
)
"""Called as (txn, usr) once the closed account has left its rooms; each deletes what its module keeps by account."""


def close(txn: Txn, usr: int, erase: bool) -> None:
    """Close the account and end every way into it."""
    accounts.set_deactivated(txn, usr, erase)
    device_removal.delete_devices(txn, usr, [device.device_id for device in devices.of_user(txn, usr)])
    tokens.delete_of_user(txn, usr)
    openid.delete_of_user(txn, usr)
    threepids.delete_of_user(txn, usr)
    txn.announce(Change(txn.position(), "account", user=usr))


def forget_data(txn: Txn, usr: int) -> None:
    """Delete what the closed account kept; it has left its rooms."""
    for forget in ON_ACCOUNT_CLOSED:
        forget(txn, usr)
    accounts.set_left(txn, usr)
