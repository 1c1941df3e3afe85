# SPDX-License-Identifier: Apache-2.0
"""The face that other servers see."""
