"""Whether objects stand on the side of the words that a prompt says: ``benchmarks/beside_words.py PIPELINE ...``.

Layouts alone are sampled, of prompts such as ``a red car below the word "SALE"`` with held-out words. Printed are, with
95 % intervals over prompts, the shares of the prompts whose object has a box, and of those boxes that are clearly on
the side of the word that is asked for.
"""

from __future__ import annotations

import argparse

import numpy as np
from markdown_table import table

from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS
from vlad_lightning.data.synthetic.telling import RELATIONS, relation_of_points
from vlad_lightning.data.synthetic.vocabulary import draw_word
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.nouns import NOUNS
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.pipeline import VLADPipeline

FORMS = (
    "a {thing} {side} the word '{word}'",
    "a poster with a {thing} {side} the text '{word}'",
    "{thing} {side} '{word}'",
)


def main() -> None:
    """Sample, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="+", help="pipeline folders, or a shipped name")
    parser.add_argument("--prompts", type=int, default=240, help="(default: %(default)s)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    asked = []
    for i in range(options.prompts):
        side = tuple(RELATIONS)[i % len(RELATIONS)]
        thing = f"{rng.choice(list(PALETTE))} {rng.choice(NOUNS)}"
        told = RELATIONS[side][i // len(RELATIONS) % len(RELATIONS[side])]
        word = draw_word(rng, True, GRAMMAR_WORDS["literal"])
        asked.append((FORMS[i % len(FORMS)].format(thing=thing, side=told, word=word), side))
    rows = []
    for name in options.pipelines:
        pipe = VLADPipeline.from_pretrained(name)
        assert pipe.layout_generator is not None, f"{name} has no stage 1"
        there, right = [], []
        for start in range(0, len(asked), 40):
            now = asked[start : start + 40]
            prompts = [prompt for prompt, _ in now]
            keys = [(prompt,) for prompt in prompts]
            layouts = pipe.layout_generator.sample(prompts, pipe.layout_sampler, sampling_generators(0, keys))
            for layout, (_, side) in zip(layouts, now, strict=True):
                boxes = layout.object_boxes[layout.object_boxes[:, 2:4].prod(dim=1) < 0.5]
                there.append(len(boxes) > 0)
                centres = [tuple(box[:2].tolist()) for box in (*boxes[:1], layout.boxes.mean(dim=0))]
                right.append(len(boxes) > 0 and relation_of_points(*centres) == side)
        asked_for, drawn, on_side = (np.array(each, dtype=np.float64) for each in ([1] * len(there), there, right))
        shares = (
            ratio_result(drawn, asked_for, np.random.default_rng(0)),
            ratio_result(on_side, drawn, np.random.default_rng(0)),
        )
        rows.append((name, f"{len(asked)}", *(f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for r in shares)))
    table(("pipeline", "prompts", "with a box", "on the side asked for"), rows)


if __name__ == "__main__":
    main()
