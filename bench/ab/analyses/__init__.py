# SPDX-License-Identifier: BSD-3-Clause
"""One module a section of the report: NAME and analyse(ctx) -> Section, or None when its samples were not taken."""
