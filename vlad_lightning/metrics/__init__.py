"""What is measured: a pure function each and a ``torchmetrics`` shell with its state."""
