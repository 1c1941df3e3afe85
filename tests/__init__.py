# SPDX-License-Identifier: Apache-2.0
"""Parley's tests."""
