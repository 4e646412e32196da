"""Helpers of the tests: tiny studies, scripts as modules, killed processes, damage and hostile input."""
