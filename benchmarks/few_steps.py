"""Words and objects against evaluations of the network: ``benchmarks/few_steps.py [TEACHER] [--student FOLDER]``.

The posters and judges are those of ``inference.py``. A step of a guided pipeline evaluates the network once for each
branch of its guidance, two or three times; a step of a student of ``DistillationModule`` once. Layouts are generated
as always, and their evaluations, of a much smaller network, are not counted. Seconds are the processor's.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from inference import COLUMNS, Judges
from markdown_table import table, table_rows

from vlad_lightning.pipeline import VLADPipeline

_UNGUIDED = {"guidance_scale": 1.0, "layout_scale": 1.0}


def main() -> None:
    """Generate, read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", nargs="?", default="vlad-mini", help="a pipeline (default: %(default)s)")
    parser.add_argument("--student", help="the pipeline of a student")
    parser.add_argument("--posters", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 10, 5, 4, 2, 1])
    parser.add_argument("--unguided", action="store_true", help="the teacher without guidance, too")
    options = parser.parse_args()
    teacher = _opened(options.teacher)
    judges = Judges(options.posters, teacher.config.image_size)
    systems: list[tuple[str, VLADPipeline, dict[str, Any]]] = [("guided teacher", teacher, {})]
    if options.unguided:
        systems.append(("unguided teacher", teacher, _UNGUIDED))
    if options.student:
        systems.append(("student", _opened(options.student), {}))
    table(("system", "steps", "evaluations", "s of the processor an image", *COLUMNS), ())
    for name, pipe, settings in systems:
        branches = len(pipe.sampler.changed(settings).guidance.branches)
        for steps in options.steps:
            start = time.process_time()
            shares = judges.shares(pipe, num_inference_steps=steps, **settings)
            seconds = (time.process_time() - start) / options.posters
            table_rows([(name, str(steps), str(steps * branches), f"{seconds:.2f}", *shares)])


def _opened(folder: str) -> VLADPipeline:
    pipe: VLADPipeline = VLADPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


if __name__ == "__main__":
    main()
