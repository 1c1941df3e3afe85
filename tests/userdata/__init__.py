# SPDX-License-Identifier: Apache-2.0
"""Tests of what users keep for themselves: account data, receipts, typing, presence, push rules, unread counts."""
