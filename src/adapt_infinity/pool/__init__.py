"""The pool: every sample that ever arrived, and the ledger of those that were removed or restored.

pool.py        shards of arrivals and the ledger
history.py     what each round added and removed, and the events of one sample
references.py  how a user names samples: by number, as source/id, or in a text file
"""
