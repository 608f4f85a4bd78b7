"""Metrics: for each, a pure function and a ``torchmetrics`` class that holds its state."""
