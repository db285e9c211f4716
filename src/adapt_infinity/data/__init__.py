"""What every folder works with: samples, their pictures, and tables with one row per sample.

sample.py    Sample and Turn: one instruction-tuning conversation
pictures.py  pictures, opened safely and only below their source's root
parquet.py   tables in Parquet files that need not fit in memory
tables.py    tables with one row per sample, brought into one order
"""
