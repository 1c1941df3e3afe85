# SPDX-License-Identifier: Apache-2.0
"""Rooms: their locks, snapshots, the way events get in, and what is read from them."""
