"""The operations that cached latents save: `python benchmarks/latents.py`.

The floating-point operations of a training step of the shipped configurations with and without them, counted on the
meta device. How fast they are read: `benchmarks/data_rates.py`.
"""

from __future__ import annotations

from markdown_table import table
from workloads import LORA, NETWORKS, build_module, forward_tflop


def main() -> None:
    """Count, and print the table."""
    rows = []
    for name, (config, _) in NETWORKS.items():
        # without gradients of the frozen weights, the backward pass is as long as the forward pass
        for title, more, passes in ((name, [], 3), (f"{name}, LoRA", ["--model.image_generator.vfe.lora", LORA], 2)):
            generated, frozen = forward_tflop(build_module(config, *more))
            trained = passes * generated
            share = frozen / (trained + frozen)
            rows.append((title, f"{trained + frozen:.2f}", f"{trained:.2f}", f"{100 * share:.0f} %"))
    table(("configuration", "TFLOP an image", "with cached latents", "saved"), rows)


if __name__ == "__main__":
    main()
