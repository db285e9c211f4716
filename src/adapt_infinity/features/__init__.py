"""Features: the current model reads the pool once and leaves gradient features, scores and embeddings.

The part that reads is called the probe: it collects per-sample gradients (docs/method.md, section 2).

    probe.py           the probe of a round: what is known already, and which workers read the rest
    spec.py            everything that decides the numbers of a feature row
    worker.py          one worker: reads one shard of samples and writes its rows
    batching.py        batches of like length within a budget of tokens and memory
    batch_reading.py   one batch: features, scores and embeddings from one forward and half a backward pass
    capture.py         per-sample LoRA gradients of a whole batch
    gradients/         what is done to a gradient before it is sketched
    adam_moments.py    Adam's moments, which one of them needs
    sketches/          random projections that shorten a gradient
    counter_rng.py     random numbers that are the same on every machine
    zero_order.py      features without gradients: loss differences along shared random directions
    scores/            scores of a sample from one reading, one file each
    image_ablation.py  the second reading, without pictures
    vision_cache.py    outputs of a frozen vision tower, computed once per picture
    shards.py          finished rows on disk, so that no row is computed twice
    store.py           the rows of a stream, and the features of a round, on disk
    drift.py           how far an older adapter's rows lie from the current model's
"""
