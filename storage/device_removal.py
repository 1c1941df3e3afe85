# SPDX-License-Identifier: Apache-2.0
"""What goes when a device goes: its tokens, its keys, its messages, in one transaction."""

from collections.abc import Callable, Sequence

from storage import account_data, devices, e2e_removal, pushers, tokens
from storage.txn import Txn


def _forget_pushers(txn: Txn, usr: int, device: devices.Device) -> None:
    pushers.remove_of_devices(txn, usr, [device.device])


def _forget_settings(txn: Txn, usr: int, device: devices.Device) -> None:
    """MSC3890: the notification settings that a client kept for the device in account data."""
    account_data.remove(txn, usr, account_data.ACCOUNT, account_data.DEVICE_SETTINGS + device.device_id)


ON_DEVICE_DELETED: tuple[Callable[[Txn, int, devices.Device], None], ...] = (
    e2e_removal.forget_device,
    _forget_pushers,
    _forget_settings,
)
"""Called as (txn, usr, device) before the device's row is deleted; each deletes what its module keeps by device."""


def delete_devices(txn: Txn, usr: int, device_ids: Sequence[str]) -> list[devices.Device]:
    """Delete these devices of the account with all that belongs to them; returns those that existed."""
    gone = []
    for device_id in device_ids:
        device = devices.find(txn, usr, device_id)
        if device is None:
            continue
        for forget in ON_DEVICE_DELETED:
            forget(txn, usr, device)
        tokens.delete_of_device(txn, usr, device.device)
        devices.delete_row(txn, device.device)
        gone.append(device)
    return gone


def delete_all_devices(txn: Txn, usr: int, except_device: str | None = None) -> list[devices.Device]:
    """Delete the account's devices, but for one, and every token that is not that device's."""
    kept = None if except_device is None else devices.find(txn, usr, except_device)
    ids = [device.device_id for device in devices.of_user(txn, usr) if device.device_id != except_device]
    gone = delete_devices(txn, usr, ids)
    tokens.delete_of_user(txn, usr, except_device=None if kept is None else kept.device)
    return gone
