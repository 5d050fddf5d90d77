"""Scoring: metrics, results of runs, tables and figures."""
