"""The embedded stream and the embedded model: data and weights for a real round, without any download.

Data
- `scenes`: pictures of 36 x 36 pixels, described and rendered
- `sample_specs`: skills, and samples before they have pixels
- `datasets/`: the six datasets, one file each
- `stream`: the stream made of them, written in the LLaVA format

Model
- `model`: tokenizer, processor, architecture and checkpoint of the embedded LLaVA
- `encoding`: conversations as batches of token ids and pixel values
- `recipe`: parameters of pre-training
- `vision_pretraining`: stage 1
- `language_pretraining`: stages 2 to 4
- `pretraining`: all stages, and what the model can do afterwards
- `checkpoint/`, `aligned/`: the shipped weights after all stages, and after stage 2 (each with a model card)
"""
