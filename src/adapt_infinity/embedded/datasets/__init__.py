"""The six embedded datasets, one file each.

- `primitives`: the base dataset, on which the embedded model is pre-trained
- `visual_chat`, `languages`, `digits`, `charts`, `comparisons`: the five arrivals, in this order

Each file has `ABOUT` (one line for `datasets.json`), `SKILLS` (the skills that the dataset introduces), `RECURRING`
(skills of earlier datasets that come back, with their shares; optional) and `draw(skill, split, rng)`, which draws the
content of one sample.
"""
