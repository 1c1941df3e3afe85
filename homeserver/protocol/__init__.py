# SPDX-License-Identifier: Apache-2.0
"""The rules of Matrix as pure functions of values: no I/O, no clock, no randomness."""
