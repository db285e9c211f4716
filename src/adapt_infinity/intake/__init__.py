"""Intake: raw records of a source become checked samples, and bad records are set aside with their reason.

records.py         raw records from JSON, JSON Lines, Parquet and Arrow files, one after another
streaming_json.py  JSON of any size, read piece by piece
formats/           one file per record format: a raw record becomes a conversation
validators.py      fields of a raw record, checked for their kind
conversation.py    one conversation: what is wrong with it, and what is safe to repair
reading.py         all of that for a whole source
rejects.py         records that were set aside, with their reason and raw text
overlap.py         arrivals that the pool or the benchmarks contained before
presets/           public datasets: what to download and the source entry that reads it
"""
