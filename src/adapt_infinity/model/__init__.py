"""The model: any image-text-to-text checkpoint of transformers with a LoRA adapter on it.

checkpoint.py           loading a checkpoint, attaching and detaching adapters, answer logits
lora.py                 an adapter apart from any model: its weights, its digest, its folder on disk
adapters/               adapter types beside plain LoRA, one file each
prompts.py              a sample becomes model inputs, with labels on answer tokens only
merging.py              merging a LoRA adapter into the base weights where nothing is trained
modality_embeddings.py  a sample's pictures, instruction and answer as one vector each
"""
