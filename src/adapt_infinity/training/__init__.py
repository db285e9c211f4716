"""Training: the adapter is trained on the chosen subset by a continual-learning method (docs/method.md, section 6).

params.py            parameters of training and of the warm-up
round.py             the training of one round, from the subset to the adapter and the method's state
adapter_policy.py    whether a round continues the previous adapter, or merges it and trains a new one
schedule.py          which samples are in which step, and the learning rate of each step
loop.py              the training loop, the same for every method
context.py           what a method sees of a training, and the callbacks through which it acts
parameter_vector.py  all trained weights as one vector, and their gradients as another
methods/             the continual-learning methods, one file each
penalty.py           quadratic penalties and importances of weights, for EWC, MAS and TIR
stored_logits.py     logits of samples of earlier rounds, for DER and DER++
method_state.py      what a method carries from one round to the next
checkpoints.py       checkpoints from which a killed training continues
loss_events.py       the loss of each step as log records, for MLflow
process_group.py     several processes that train one model together
"""
