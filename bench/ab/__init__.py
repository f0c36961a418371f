# SPDX-License-Identifier: BSD-3-Clause
"""The A/B instrument: experiments as files, their runner, statistics, analyses and the report (docs/method.md)."""
