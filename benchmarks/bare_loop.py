"""Fine-tune a text-to-image UNet as diffusers' example does, with nothing of this package around it, for a comparison.

``python benchmarks/bare_loop.py --data FOLDER --steps 100``: pictures and captions of a folder in MARIO's format are
read by torchvision and a DataLoader, the text tower is frozen, and PyTorch's loop computes the loss in bfloat16, clips
the gradient and takes AdamW's step, with a progress bar. The network, the autoencoder, the noise schedule and the batch
are those of ``configs/baselines/sd.yaml``. ``whole_fit.py`` times it beside ``vlad-cli fit``.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from vlad_lightning.files import configs_folder
from vlad_lightning.models.cpu_attention import plain_attention_on_cpu
from vlad_lightning.models.text.encoder import build_text_tower, train_tokenizer

_SIDE, _FACTOR = 64, 2  # of a picture in pixels, and of the blocks that become channels
_CONTEXT = 60  # tokens


class Folder(Dataset[dict[str, Tensor]]):
    """Pictures (3, 64, 64) in [-1, 1] and tokens (60,) of a folder in MARIO's format."""

    def __init__(self, root: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        self.folders = sorted(root.glob("*/*/"))
        self.tokenizer = tokenizer
        self.transform = v2.Compose(
            [
                v2.Resize((_SIDE, _SIDE)),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        folder = self.folders[index]
        image = Image.open(folder / "image.jpg").convert("RGB")
        tokens = self.tokenizer(
            caption(folder), max_length=_CONTEXT, padding="max_length", truncation=True, return_tensors="pt"
        )
        return {"pixel_values": self.transform(image), "input_ids": tokens.input_ids[0]}


def caption(folder: Path) -> str:
    """Return the caption of a sample."""
    return (folder / "caption.txt").read_text(encoding="utf-8")


def train(data: Path, steps: int, batch_size: int) -> None:
    """Take ``steps`` optimizer steps."""
    torch.manual_seed(0)
    config = yaml.safe_load((configs_folder() / "baselines" / "sd.yaml").read_text())["model"]["init_args"]
    settings = config["baseline"]["init_args"]
    tokenizer = train_tokenizer(caption(folder) for folder in sorted(data.glob("*/*/")))
    tower = build_text_tower(context=_CONTEXT).eval().requires_grad_(False)
    unet = UNet2DConditionModel(**settings["unet"]["init_args"]).train()
    schedule = DDPMScheduler(**settings["schedule"]["init_args"])
    optimizer = torch.optim.AdamW(unet.parameters(), lr=config["optimization"]["lr"])
    rate = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=config["optimization"]["warmup_steps"])
    loader = DataLoader(Folder(data, tokenizer), batch_size, shuffle=True, drop_last=True)
    bar = tqdm(total=steps)
    while bar.n < steps:
        for batch in loader:
            latents = F.pixel_unshuffle(batch["pixel_values"], _FACTOR)
            noise = torch.randn_like(latents)
            timesteps = torch.randint(0, schedule.config.num_train_timesteps, (len(latents),))
            noisy = schedule.add_noise(latents, noise, timesteps)
            with torch.autocast("cpu", torch.bfloat16):
                states = tower(input_ids=batch["input_ids"]).last_hidden_state
                predicted = unet(noisy, timesteps, encoder_hidden_states=states).sample
            loss = F.mse_loss(predicted.float(), latents)  # prediction_type: sample
            loss.backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            bar.update()
            bar.set_postfix(loss=loss.item(), lr=rate.get_last_lr()[0])
            if bar.n == steps:
                break
    bar.close()


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder in MARIO's format")
    parser.add_argument("--steps", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument("--plain_attention", action="store_true", help="attention as vlad-cli computes it on a CPU")
    options = parser.parse_args()
    with plain_attention_on_cpu() if options.plain_attention else nullcontext():
        train(options.data, options.steps, options.batch)


if __name__ == "__main__":
    main()
