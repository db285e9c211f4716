"""Benchmarks: how well the model answers test items, and what the scores of all rounds say (docs/method.md, section 9).

answering.py        picks the test items, and has the model answer and the graders grade
worker.py           answers and grades one shard of the items in one process
generation.py       greedy generation of answers in batches
routing.py          answers of a model whose adapter has one projector per task, and how often the right one was chosen
graders/            how an answer is compared with the reference, one file per grader
text.py             text functions that the graders share
measures.py         the score matrix R, and every measure that is computed from it
task_similarity.py  how similar the tasks of the stream are
"""
