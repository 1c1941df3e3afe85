# SPDX-License-Identifier: Apache-2.0
"""What other servers ask of this one."""
