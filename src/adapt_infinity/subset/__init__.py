"""Subset: which samples of the pool the round trains on (docs/method.md, section 5).

selecting.py    the subset table: which rows are trained on, and why each was or was not
budgets.py      how many rows each group gives, and which
shares/         how the budget is divided over clusters, one file per rule
samplers/       which rows of one cluster are taken, one file per sampler
constraints.py  lists, floors and caps that hold whatever chooses the subset
uniform.py      draws that judge no sample
"""
