"""What every stage works with: samples, their pictures, and tables with one row per sample.

sample.py    Sample and Turn: one instruction-tuning conversation, and the schema of a table of samples
pictures.py  pictures, opened safely: only files below the root folder of their source
parquet.py   Parquet files that need not fit in memory
tables.py    tables with one row per sample, brought into the same row order
"""
