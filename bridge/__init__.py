# SPDX-License-Identifier: Apache-2.0
"""The marketplace's application service."""
