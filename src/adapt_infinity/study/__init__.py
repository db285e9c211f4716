"""A study: data strategies and training methods compared on one stream, over several seeds, by the same measures.

- `grid`: the cells of a study; a cell is one strategy with one method and one seed
- `costs`: floating-point operations of forward and backward passes, and the costs of a round
- `round_cost`: the costs of a finished round, from its catalog
- `results`: one long table of the scores and costs of all cells
- `statistics`: confidence intervals, paired tests, ranks with critical differences
- `tables`: means over seeds and differences, from the long table
- `figures`: figures of a study
- `page`: the study as Markdown and as one self-contained HTML file

`kedro study` (in `cli/`) runs the cells. Nothing here uses Kedro or MLflow.
"""
