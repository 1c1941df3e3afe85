# SPDX-License-Identifier: Apache-2.0
"""Application services, told and asked over real sockets."""
