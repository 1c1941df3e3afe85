# SPDX-License-Identifier: Apache-2.0
"""Application services: whose names are theirs, what they are told, and what they are asked."""
