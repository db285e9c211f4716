"""Features: the current model reads the pool once, which gives gradient features, scores and embeddings.

The stage is called the probe: a collector of per-sample gradients (docs/method.md, section 2).

    probe.py             the probe of a round: which samples are read, and by which workers
    spec.py              the settings that decide the numbers of a feature row
    worker.py            one worker: reads a shard of samples and writes its rows
    batching.py          batches of similar length within a budget of tokens and memory
    batch_invariance.py  whether a row depends on the number of rows in its batch
    batch_reading.py     features, scores and embeddings of one batch, from one forward and part of a backward pass
    capture.py           per-sample LoRA gradients of a whole batch
    gradients/           what is done to a gradient before it is sketched, one file each
    adam_moments.py      Adam's moments of the probed weights, which gradients/adam.py needs
    sketches/            random projections that shorten a gradient, one file each
    counter_rng.py       random bits that are the same on every machine
    zero_order.py        features without gradients: loss differences along shared random directions
    scores/              scores of a sample, one file each
    image_ablation.py    a sample's tokens with and without its images, encoded once
    vision_cache.py      outputs of a frozen vision tower, computed once per picture
    shards.py            finished rows on disk, so that no row is computed twice
    store.py             all rows of a stream, and the features of a round, on disk
    modalities.py        modality embeddings of the pool, for strategies that prune before the probe
    drift.py             how far rows of an older adapter are from those of the current one
"""
