"""Count parameters, operations and memory of each shipped stage 2, as Markdown: `python benchmarks/parameters.py`.

Everything is built on the meta device, without memory or values, and counted. A multiplication and its addition are
two operations, as in torch's counter. The memory is calculated, not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from workloads import LORA

from vlad_lightning.cli import fit as cli
from vlad_lightning.files import configs_folder
from vlad_lightning.modules import VFEModule
from vlad_lightning.types import Conditioning

CONFIGS = ("mini/stage2_vfe.yaml", "stage2_vfe.yaml", "sd21/stage2_vfe.yaml", "sdxl/stage2_vfe.yaml")
WITH_LORA = CONFIGS[1:]  # also counted with the UNet trained through adapters
CARDS = (24, 40, 80, 141)  # GB of 10^9 bytes
USABLE = 0.9  # the rest is for the driver, the kernels' workspaces and fragmentation
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Scale:
    """The counts of one configuration; memory in GB of 10^9 bytes."""

    name: str
    pixels: int
    unet: int
    trained: int
    all: int
    operations: float
    evaluations: int
    activations: float

    @property
    def weights(self) -> float:
        """All weights in float32, including frozen ones."""
        return self.all * FLOAT / 1e9

    @property
    def gradients(self) -> float:
        """Gradients of the trained weights."""
        return self.trained * FLOAT / 1e9

    @property
    def moments(self) -> float:
        """AdamW's two moments of each trained weight."""
        return 2 * self.trained * FLOAT / 1e9

    @property
    def fixed(self) -> float:
        """Memory that does not depend on the batch; the EMA of the trained weights is as large as their gradients."""
        return self.weights + self.gradients + self.moments + self.gradients

    def batch(self, card: float) -> int:
        """The largest batch that fits."""
        return max(0, int((USABLE * card - self.fixed) / self.activations))


def main() -> None:
    """Count and print."""
    scales = [measured(name) for name in CONFIGS] + [measured(name, lora=True) for name in WITH_LORA]
    _table(
        ("configuration", "image", "UNet", "trained", "all parameters", "forward", "guided image"),
        [
            (
                s.name,
                f"{s.pixels} px",
                f"{s.unet:,}",
                f"{s.trained:,}",
                f"{s.all:,}",
                f"{s.operations / 1e12:.4f} TFLOP",
                f"{s.evaluations} evaluations, {s.evaluations * s.operations / 1e12:.2f} TFLOP",
            )
            for s in scales
        ],
    )
    print()
    _table(
        ("configuration", "weights", "gradients", "AdamW", "EMA", "together", "activations per image, float32"),
        [
            (
                s.name,
                *(f"{x:.2f} GB" for x in (s.weights, s.gradients, s.moments, s.gradients, s.fixed, s.activations)),
            )
            for s in scales
        ],
    )
    print()
    _table(
        ("configuration", *(f"{card} GB" for card in CARDS)),
        [(s.name, *(str(s.batch(card) or "does not fit") for card in CARDS)) for s in scales],
    )


def measured(name: str, lora: bool = False) -> Scale:
    """Build one configuration, with the UNet's weights or its adapters trained, and count."""
    adapters = ["--model.image_generator.vfe.lora", LORA] if lora else []
    with torch.device("meta"):
        module = cli.build(["--config", str(configs_folder() / name), *adapters], run=False).model
        assert isinstance(module, VFEModule)
        inputs = vfe_inputs(module)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module.image_generator.vfe(*inputs)
        activations = _saved(module.image_generator.vfe, inputs)
    return Scale(
        name=f"`{name}`, LoRA" if lora else f"`{name}`",
        pixels=module.image_generator.image_size,
        unet=_count(module.image_generator.vfe.network),
        trained=_count(module, trained=True),
        all=_count(module),
        operations=counter.get_total_flops(),
        evaluations=module.sampler.steps * len(module.sampler.guidance.branches),
        activations=activations / 1e9,
    )


def vfe_inputs(module: VFEModule) -> tuple[Tensor, Tensor, Tensor | None, Conditioning]:
    """Make one image's latent, step, layout and conditioning; nothing is computed."""
    image_generator, encoder = module.image_generator, module.image_generator.prompt_encoder.text_encoder
    z = image_generator.autoencoder.encode_images(
        torch.zeros(1, 3, image_generator.image_size, image_generator.image_size)
    )
    size, phrases = encoder.width, 1 + encoder.max_words + encoder.max_objects
    length, added = encoder.context, image_generator.vfe.backbone.added_width
    told = Conditioning(
        pooled=torch.zeros(1, size),
        phrases=torch.zeros(1, phrases, size),
        phrase_mask=torch.ones(1, phrases, dtype=torch.bool),
        tokens=torch.zeros(1, length, size),
        token_mask=torch.ones(1, length, dtype=torch.bool),
        words=torch.zeros(1, encoder.max_words, size),
        word_mask=torch.ones(1, encoder.max_words, dtype=torch.bool),
        text_embeds=None if added is None else torch.zeros(1, added),
    )
    return z, torch.zeros(1, dtype=torch.int64), z if image_generator.hierarchical else None, told


class FusedAttention(TorchFunctionMode):
    """Attention by a GPU's kernel, which keeps no matrix of probabilities; on meta, torch uses another kernel."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace this one function; no image generator here uses its masks and dropout."""
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_efficient_attention(*args[:3], None, True)[0]
        return func(*args, **(kwargs or {}))


def _saved(network: nn.Module, inputs: Any) -> int:
    """Count the bytes in float32 that a forward pass keeps for the backward pass, without weights."""
    own = {value.untyped_storage()._cdata for value in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is used twice

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), FusedAttention():
        result = network.train()(*inputs)
    total = sum(storage.nbytes() for storage in kept.values())
    del result
    return total


def _count(module: nn.Module, trained: bool = False) -> int:
    return sum(value.numel() for value in module.parameters() if value.requires_grad or not trained)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
