# SPDX-License-Identifier: Apache-2.0
"""What of end-to-end encryption goes when a device or an account goes."""

from storage import cross_signing, dehydrated_devices, device_keys, device_lists, key_backup, one_time_keys, to_device
from storage.devices import Device
from storage.txn import Txn


def forget_device(txn: Txn, usr: int, device: Device) -> None:
    """Delete the device's keys, the messages for it and the signatures on it; others learn that it is gone."""
    one_time_keys.delete(txn, device.device)
    to_device.delete(txn, device.device)
    dehydrated_devices.delete(txn, usr, device.device)
    if device_keys.delete(txn, device.device):
        cross_signing.delete_signatures_on(txn, usr, device.device_id)
        device_lists.record(txn, usr)


def forget_user(txn: Txn, usr: int) -> None:
    """Delete what an account keeps beside its devices, which go one by one: cross-signing keys and key backups."""
    if cross_signing.delete_user(txn, usr):
        device_lists.record(txn, usr)
    key_backup.delete_user(txn, usr)
