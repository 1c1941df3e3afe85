# SPDX-License-Identifier: Apache-2.0
"""Requests that a machine makes of the specification's OpenAPI description."""
