"""Evaluation of any text-to-image system or folder of finished images: suites, rows, statistics and reports."""
