"""The pool: every sample that ever arrived, and the record of what left it.

pool.py        shards of arrivals and the ledger of removals
history.py     what each round added and removed, and the life of one sample
references.py  how a user names samples: by number, as source/id, or in a text file
"""
