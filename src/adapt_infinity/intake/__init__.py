"""Intake: raw records of a source become checked samples, and bad records are rejected with a reason.

arrivals.py        the nodes: what arrives in a round, and its overlaps with the pool and the benchmarks
reading.py         reads a whole source: checks, repairs, arrivals and rejects
records.py         raw records from JSON, JSON Lines, Parquet and Arrow files, one after another
streaming_json.py  JSON files of any size, read record by record
formats/           one file per record format, which turns a raw record into a conversation
validators.py      functions by which formats read the fields of a raw record
conversation.py    checks and safe repairs of one conversation
rejects.py         rejected records with their reason and raw text
overlap.py         arrivals that duplicate samples of the pool or test items of the benchmarks
presets/           public datasets: what to download, and the source entry that reads it
"""
