"""Training: the current adapter learns from the chosen subset (METHOD section 6), by a continual-learning method.

params.py       what a user can set                 plan.py         which samples in which step, at which rate
weights.py      what is trained, as one vector      engine.py       the loop, the same for every method
lesson.py       what a method can see and do        checkpoints.py  a killed training goes on where it was
round.py        a round's training, whole           workers.py      several processes train as one
methods/        the methods, a file each            adapter_policy.py   how a round's adapter begins
"""
