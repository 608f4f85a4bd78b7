"""What guidance does to the systems of Table I: ``python benchmarks/guidance.py [OUT]``.

Each system that ``vlad-cli run --config table1_mini.yaml --out OUT`` has trained is tested with three scales, on 128
posters of the training's kind that no system was trained on. A test that has been made is not made again. For each
scale are printed OCR's F, the CLIP score and the distance. Bold is the scale with the highest F, or, where no scale
has an F above 0.01, the highest CLIP score.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from markdown_table import result_cell, table
from tables import COLUMNS, Run, read

CONFIGS = {
    "sd": ("baselines/sd", "baselines/test"),
    "sd_finetuned": ("baselines/sd", "baselines/sd_finetuned", "baselines/test"),
    "controlnet": ("baselines/sd", "baselines/controlnet", "baselines/test"),
    "textdiffuser": ("baselines/textdiffuser", "baselines/test"),
    "artist": ("baselines/artist", "baselines/test"),
    "deepfloyd": ("baselines/deepfloyd", "baselines/test"),
    "vlad": ("mini/stage2_vfe", "mini/test", "baselines/vlad_test"),
}
SCALES = (1.5, 3.0, 6.0)
PIXEL_SCALES = (3.5, 7.0, 10.0)  # of the cascade, whose authors' is 7
POSTERS = 128
LEGIBLE = 0.01
MEASURES = ("mario_f", "clip_score_w1", "frechet_distance")


def main() -> None:
    """Test what has not been tested, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path("runs/table1"), help="(default: %(default)s)")
    out: Path = parser.parse_args().out
    posters = out / "data" / "guidance"
    if not posters.is_dir():
        command("synth", "--out", posters, "--samples", POSTERS, "--size", 64, "--seed", 3)
    rows = []
    for system in CONFIGS:
        scales = PIXEL_SCALES if system == "deepfloyd" else SCALES
        found = [measured(out, system, scale, posters) for scale in scales]
        best = choose(found)
        rows += [
            (
                system,
                f"**{scale}**" if index == best else str(scale),
                *(result_cell(run.result(name)) for name in MEASURES),
            )
            for index, (scale, run) in enumerate(zip(scales, found, strict=True))
        ]
    table(("system", "scale", *(COLUMNS[name] for name in MEASURES)), rows)


def measured(out: Path, system: str, scale: float, posters: Path) -> Run:
    """Return the results of a system at a scale; test it if there are none."""
    stage = f"guidance/{system}_{scale}"
    if not (out / stage / "results.json").is_file():
        configs = [part for name in CONFIGS[system] for part in ("--config", f"{name}.yaml")]
        scales = ["--model.sampler.guidance_scale", scale]
        if system == "vlad":
            scales += ["--model.sampler.layout_scale", scale]
        weights = out / ("stage2" if system == "vlad" else system) / "last.ckpt"
        command(
            "test", *configs, "--out", out, "--stage", stage, "--data.root", out / "data" / "train",
            "--data.test_root", posters, "--data.test_prompts", "null", "--ckpt_path", weights, *scales,
        )  # fmt: skip
    return read(out, stage)


def choose(runs: Sequence[Run]) -> int:
    """Return the index of the best scale."""
    legible = max(value(run, "mario_f") for run in runs) > LEGIBLE
    return max(range(len(runs)), key=lambda index: value(runs[index], "mario_f" if legible else "clip_score_w1"))


def value(run: Run, measure: str) -> float:
    """Return the value of a measure."""
    result = run.result(measure)
    if result is None:
        raise ValueError(f"a test has no {measure}")
    return float(result["value"])


def command(*args: object) -> None:
    """Run a command of the product."""
    subprocess.run([sys.executable, "-m", "vlad_lightning", *map(str, args)], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
