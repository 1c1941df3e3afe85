# SPDX-License-Identifier: Apache-2.0
"""Tests of end-to-end encryption's part of the server."""
