"""Training: the current adapter is trained on the chosen subset, by a continual-learning method (docs/method.md,
sections 6 and 10).

round.py             a round's training, from start to end
params.py            what a user can set
loop.py              the training loop, the same for every method
schedule.py          which samples are in which step, and the learning rate
parameter_vector.py  the trained weights as one vector
adapter_policy.py    how a round's adapter begins
context.py           what a method can see of a training, and where in a step it can act
method_state.py      what a method hands from round to round
penalty.py           quadratic penalties and importances
stored_logits.py     the logits that der and der_pp remember
checkpoints.py       how a killed training continues
process_group.py     processes that train together
loss_events.py       the loss while it is being trained, for whoever listens
methods/             the training methods, one file each
"""
