"""The model: any image-text-to-text checkpoint of transformers, with a LoRA adapter on it.

checkpoint.py           loads a checkpoint, puts adapters on it and takes them off, computes logits of answer tokens
lora.py                 an adapter apart from any model: its weights, its digest, its folder on disk
adapters/               adapter types that add something to plain LoRA, one file each
prompts.py              turns a sample into model inputs whose labels cover answer tokens only
merging.py              merges a LoRA adapter into the base weights where nothing is trained
modality_embeddings.py  one vector each for a sample's images, its instruction and its answer
"""
